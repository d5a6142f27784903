"""Server groups on real guests: members run together or apart, as each host's own libvirtd has them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.life import MARKS, World, wait_until
from tests.running import chronova

pytestmark = MARKS


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, list[str]]:
    return world.leftovers()


@pytest.mark.parametrize(
    ("policy", "hosts"), [("affinity", 1), ("anti-affinity", 2), ("soft-affinity", 1), ("soft-anti-affinity", 2)]
)
def test_members_are_placed_as_their_group_says(
    world: World, before: dict[str, list[str]], policy: str, hosts: int
) -> None:
    compute = world.cloud.compute
    group = compute.create_server_group(name=policy, policy=policy)
    hint: dict[str, Any] = {"networks": "none", "scheduler_hints": {"group": group.id}}
    guests = [world.create(f"{policy}-{number}", **hint) for number in (1, 2)]
    for guest in guests:
        assert guest.settles("ACTIVE").server_groups == [group.id]
    at = world.domains()
    assert len({at[guest.id] for guest in guests}) == hosts
    assert sorted(compute.get_server_group(group).member_ids) == sorted(guest.id for guest in guests)
    if policy == "anti-affinity":
        guests.append(world.create("one-too-many", **hint))
        wait_until(lambda: guests[2].server.status == "ERROR", "there is no host left for a third")
        assert "No valid host" in guests[2].server.fault["message"]
        told = chronova("explain", guests[2].id, data=world.data).stdout
        assert told.count("fewer than 1 members of the group") >= 1, told
        assert "ServerGroupFilter" in told
    for guest in guests:
        guest.delete()
    assert compute.get_server_group(group).member_ids == []
    compute.delete_server_group(group)
    assert world.left_since(before) == {}
