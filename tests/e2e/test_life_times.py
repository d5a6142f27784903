"""What comes by itself at its time, on a real guest: a resize's confirmation, leaving the host, the end of a delete."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.life import MARKS, Guest, World, living, wait_until
from tests.running import chronova

pytestmark = MARKS

SECONDS = 8
SETTINGS = f"""
[commands]
resize_confirm_seconds = {SECONDS}
shelved_offload_seconds = {SECONDS}
reclaim_seconds = {SECONDS}
"""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("times")
    (folder / "chronova.toml").write_text(SETTINGS)
    with living(folder / "data", "--config", str(folder / "chronova.toml")) as world:
        yield world


@pytest.fixture(scope="module")
def before(hasty: World) -> dict[str, list[str]]:
    return hasty.leftovers()


@pytest.fixture(scope="module")
def guest(hasty: World, before: dict[str, list[str]]) -> Guest:
    guest = hasty.create("times")
    guest.settles("ACTIVE")
    guest.boots()
    guest.run("echo kept > /data/root/note; sync")
    return guest


def last_actor(world: World, guest: Guest) -> tuple[str, str]:
    """The newest action and who did it."""
    action = next(iter(world.admin.compute.server_actions(guest.id)))
    return action.action, action.user_id


def test_a_resize_is_confirmed_by_itself(hasty: World, guest: Guest) -> None:
    flavor = hasty.admin.compute.create_flavor(name="times.two", ram=128, vcpus=2, disk=1)
    guest.do("resize_server", "VERIFY_RESIZE", flavor.id)
    assert guest.boots()["cpus"] == "2"
    guest.settles("ACTIVE")
    action, actor = last_actor(hasty, guest)
    assert (action, actor != guest.server.user_id) == ("confirmResize", True)
    assert guest.run("nproc; cat /data/root/note") == "2\nkept"


def test_a_shelved_server_stays_on_its_host_for_its_time_and_leaves(hasty: World, guest: Guest) -> None:
    guest.do("shelve_server", "SHELVED")
    assert guest.id in hasty.domains()
    wait_until(lambda: guest.server.status == "SHELVED_OFFLOADED", "it leaves")
    guest.settles("SHELVED_OFFLOADED")
    assert guest.id not in hasty.domains()
    assert last_actor(hasty, guest)[0] == "shelveOffload"
    guest.do("unshelve_server", "ACTIVE")
    guest.boots()
    assert guest.run("cat /data/root/note") == "kept"


def test_a_shelved_server_comes_back_where_it_is(hasty: World, guest: Guest) -> None:
    guest.do("shelve_server", "SHELVED")
    guest.do("unshelve_server", "ACTIVE")
    guest.boots()
    assert guest.run("cat /data/root/note") == "kept"


def test_a_deleted_server_can_be_restored(hasty: World, guest: Guest) -> None:
    hasty.cloud.compute.delete_server(guest.id)
    wait_until(lambda: guest.server.status == "SOFT_DELETED", "it is soft-deleted")
    assert not guest.domain.isActive()
    guest.do("restore_server", "ACTIVE")
    guest.boots()
    assert guest.run("cat /data/root/note") == "kept"


def test_a_deleted_server_is_gone_when_its_time_comes(hasty: World, guest: Guest, before: dict[str, list[str]]) -> None:
    hasty.cloud.compute.delete_server(guest.id)
    wait_until(lambda: guest.id not in hasty.domains(), "the guest is gone")
    wait_until(lambda: hasty.left_since(before) == {}, "everything is given back")
    told = chronova("history", guest.id, data=hasty.data)
    assert told.stdout.count("delete") >= 2, told.stdout + told.stderr


def test_a_soft_deleted_server_is_deleted_at_once_when_forced(hasty: World, before: dict[str, list[str]]) -> None:
    other = hasty.create("forced", networks="none")
    other.settles("ACTIVE")
    hasty.cloud.compute.delete_server(other.id)
    wait_until(lambda: other.server.status == "SOFT_DELETED", "it is soft-deleted")
    hasty.cloud.compute.delete_server(other.id, force=True)
    wait_until(lambda: other.id not in hasty.domains(), "the guest is gone")
    wait_until(lambda: hasty.left_since(before) == {}, "everything is given back")
    found = chronova("audit", "verify", data=hasty.data)
    assert found.returncode == 0, found.stdout + found.stderr
