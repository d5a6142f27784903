"""A progress report is a commit of its own: the order must not go out, nor be carried out, once more because of it.

Seen on a real guest: each order that told its progress was published again under the position of that commit, and the
agent, taking it for another order, did it anew as soon as it was done: a guest that came out of rescue rebooted again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commands.streams import ORDERS
from domain.orders import Order, Report
from eventlog.nats_server import EmbeddedNats
from hypervisor_agent.simulated_faults import Faults
from tests.agent_fixtures import ControlPlane, agent_settings, order, running_agent, server_id
from tests.system import System, context


async def test_an_order_of_the_same_generation_is_not_done_twice(control_plane: ControlPlane, tmp_path: Path) -> None:
    server = server_id()
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        for number, kind in enumerate(("spawn", "reboot_hard"), 1):
            await control_plane.send(order(kind, server, number))
            await control_plane.outcome_of(number)
        before = (await control_plane.ask("console_output", server))["result"]["output"]
        await control_plane.send(order("reboot_hard", server, 3, generation=2))
        await control_plane.settled()
        after = (await control_plane.ask("console_output", server))["result"]["output"]
    assert after == before


async def test_progress_publishes_no_order(
    own_nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Event()

    async def delay(_: Faults, order: Order, __: Any) -> None:
        if order.kind == "reboot_hard":
            await told.wait()

    monkeypatch.setattr(Faults, "delay", delay)
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        before = (await system.log.js.stream_info(ORDERS)).state.last_seq
        await system.commands.server("reboot-hard", server.id, {}, context())
        server = await system.server(server.id)
        report = Report("half", str(server.host), server.id, "progress", server.generation, progress=50)
        await system.log.js.publish(f"reports.{server.host}.{server.id}", msgspec.json.encode(report))
        await system.when(server.id, lambda now: now.progress == 50)
        told.set()
        await system.settled(server.id)
        assert (await system.log.js.stream_info(ORDERS)).state.last_seq == before + 1
