"""What comes by itself at its time comes whatever is killed: an offload, a resize's confirmation, the end of a delete.

Each process is killed before the time has come and once more in the middle of what it brings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from domain.server import decode_server
from domain.workflows import FOLLOWERS
from tests.faults import proof
from tests.faults.catalogue import CASES, Case, named
from tests.faults.deployment import Deployment, running
from tests.faults.scenarios import Scene, scene

pytestmark = pytest.mark.xdist_group("faults-due")

SECONDS = 3.0
CONFIG = f"""
[commands]
shelved_offload_seconds = {SECONDS}
resize_confirm_seconds = {SECONDS}
reclaim_seconds = {SECONDS}
"""
ENDS = {"shelve": "shelved_offloaded", "resize": "active", "soft-delete": "deleted"}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("due")
    config = directory / "config.toml"
    config.write_text(CONFIG)
    with running(directory, "--config", str(config)) as started:
        yield started


def case_of(command: str) -> Case:
    return next(case for case in CASES if case.command == command)


def follower_of(command: str) -> Case:
    follower = FOLLOWERS[command]
    return next(case for case in CASES if case.command == follower and case.step.order)


def had_its_time(here: Scene, server_id: str) -> bool:
    states = [decode_server(one.commit.state) for one in here.watch.commits[server_id]]
    return any(state.due is not None for state in states)


def follows(here: Scene, server_id: str, command: str) -> bool:
    return any(event.type == f"server.{FOLLOWERS[command]}.accepted" for event in here.watch.events(server_id))


async def waiting(here: Scene, command: str) -> str:
    """A server for which something is due, and whose host will be slow at it; its id."""
    name = named("slow", follower_of(command).step)
    server_id, _ = await here.prepared(case_of(command), name)
    await here.begin(command, name, server_id, "")
    return server_id


@pytest.mark.parametrize("role", ["agents", "control", "nats-server", "supervisor"])
async def test_what_is_due_comes(deployment: Deployment, role: str) -> None:
    async with scene(deployment) as here:
        ids = await asyncio.gather(*(waiting(here, command) for command in ENDS))
        servers = here.watch.servers
        await here.watch.until(lambda: all(had_its_time(here, one) for one in ids), "all have their time")
        await here.kill(role)
        pairs = list(zip(ids, ENDS, strict=True))
        await here.watch.until(lambda: any(follows(here, *pair) for pair in pairs), "a time has come")
        await here.kill(role)
        await here.watch.until(
            lambda: all(servers[one].vm_state == ENDS[command] for one, command in pairs), "all have come"
        )
        await here.watch.settled(ids)
        proof.assert_each_action_was_done_once(here.watch)
        for one, command in pairs:
            ends = [event for event in here.watch.events(one) if event.type == f"server.{FOLLOWERS[command]}.accepted"]
            actors = [recorded.commit.meta.actor.user_name for recorded in here.watch.commits[one]]
            assert len(ends) == 1
            assert "conductor" in actors


async def test_afterwards_all_holds_and_nothing_is_left(deployment: Deployment) -> None:
    async with scene(deployment) as here:
        await here.delete_all()
    proof.assert_log_and_read_models_hold(deployment)
