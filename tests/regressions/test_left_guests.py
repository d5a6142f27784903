"""A guest whose server was deleted while its host did not answer is destroyed when the host answers again.

Seen with nats-server killed again and again: the heartbeats of a living host were lost, its servers were deleted
without a destroy order, and since nothing about their guests changed, the agent never spoke of them again.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from domain import decide
from eventlog.nats_server import EmbeddedNats
from tests.faults.proof import guests
from tests.system import ADMIN, System, context, new_server


async def test_the_guest_goes_when_its_host_is_back(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        await system.hosts_fall_silent()
        assert (await system.do("delete", server.id, actor=ADMIN)).vm_state == "deleted"
        assert list(guests(tmp_path)) == [server.id]
        await system.start_agents()
        await system.until(lambda: guests(tmp_path) == {})


async def test_a_conductor_that_died_before_it_ordered_that_does_so_when_it_starts(
    own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        await system.hosts_fall_silent()
        await system.stop_conductor()
        await system.commands.server("delete", server.id, {}, context(ADMIN))
        await system.start_conductor()
        assert (await system.settled(server.id)).vm_state == "deleted"
        await system.start_agents()
        await system.until(lambda: guests(tmp_path) == {})


async def test_an_operator_who_skips_its_destruction_does_not_leave_it(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    failing = {"failures": [{"kind": "spawn", "after": True}, {"kind": "destroy", "times": 1}]}
    operator = decide.Context(datetime.now(UTC), "", "operator", None, is_admin=True)
    async with System.open(own_nats, tmp_path, driver_options=failing, hosts=("host-1",)) as system:
        new = new_server()
        await system.commands.create_servers([new], context())
        await system.when(new.id, lambda now: now.operation is not None and now.operation.stuck)
        await system.commands.internal(
            new.id, lambda now: decide.resolve_stuck(now, "skip", operator), causation_id="operator"
        )
        server = await system.settled(new.id)
        assert (server.vm_state, server.host) == ("error", None)
        await system.until(lambda: guests(tmp_path) == {})


async def test_a_host_is_not_down_because_nats_was_away(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, host_down_after=2.0) as system:
        await system.stop_agents()
        await system.until(lambda: not system.watch.is_up("host-1"))
        up_again: list[bool] = []
        system.log.on_reconnect(lambda: up_again.append(system.watch.is_up("host-1")))  # for two seconds it is
        await asyncio.to_thread(own_nats.stop)
        await asyncio.to_thread(own_nats.restart)
        await system.until(lambda: up_again)
        assert up_again[0]
