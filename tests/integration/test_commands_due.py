"""What comes by itself, at a time that stands in the log: the end of a shelf on the host, a resize's confirmation, a
guest's own state after an administrator's word."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from commands import due, resets
from commands.audit import MachineAudit
from commands.handler import Commands
from domain.decide import watching
from domain.errors import Unavailable
from domain.server import Due, FlavorSnapshot, Server, decode_server
from eventlog.nats_server import EmbeddedNats
from tests.system import ADMIN, WAIT_SECONDS, System, context

LARGER = FlavorSnapshot(id="2", name="m1.micro", vcpus=2, ram=192, disk=1)


async def shelved(system: System) -> Server:
    server = await system.create()
    await system.commands.create("image", {"name": "shelf", "status": "queued"}, context(ADMIN), id="shelf")
    params = {"image_id": "shelf", "offload": system.commands.settings.shelved_offload}
    return await system.do("shelve", server.id, params)


async def resized(system: System) -> Server:
    server = await system.create()
    return await system.do("resize", server.id, {"flavor": msgspec.to_builtins(LARGER)})


async def told(system: System, server_id: str, number: int = 1) -> list[str]:
    """What the observations in the server's history say, newest first, once there are so many."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            actions = await system.read.actions(server_id)
            said = [str(one.text) for one in actions if one.outcome == "observed"]
            if len(said) >= number:
                return said
            await asyncio.sleep(0.02)


async def assert_log_is_legal(system: System) -> None:
    audit = MachineAudit()
    async for batch in system.log.scan():
        assert [found for one in batch if (found := audit.feed(one.commit)) is not None] == []


async def test_a_shelved_server_leaves_its_host_when_its_time_comes(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, shelved_offload_seconds=1.0) as system:
        server = await shelved(system)
        await system.stop_conductor()
        await system.start_conductor()
        server = await system.when(server.id, lambda now: now.vm_state == "shelved_offloaded")
        assert (server.host, server.due) == (None, None)
        states = [decode_server(one.commit.state) for one in await system.log.read("server", server.id)]
        due_then = [(then.vm_state, then.due.command) for then in states if then.due is not None]
        assert ("shelved", "shelve-offload") in due_then


async def test_a_shelved_server_stays_on_its_host_until_told(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, shelved_offload_seconds=-1.0) as system:
        server = await shelved(system)
        assert (server.vm_state, server.due) == ("shelved", None)
        server = await system.do("shelve-offload", server.id, actor=ADMIN)
        assert server.vm_state == "shelved_offloaded"


async def test_a_resize_is_confirmed_by_itself_unless_reverted(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, resize_confirm_seconds=3.0) as system:
        kept = await resized(system)
        system.set(resize_confirm_seconds=WAIT_SECONDS)
        back = await resized(system)
        assert kept.due is not None
        assert kept.due.command == "confirm-resize"
        back = await system.do("revert-resize", back.id)
        assert (back.vm_state, back.due) == ("active", None)
        kept = await system.when(kept.id, lambda now: now.vm_state == "active")
        assert (kept.flavor, kept.due) == (LARGER, None)
        assert "server.confirm-resize.succeeded" in await system.event_types(kept.id)
        assert "server.confirm-resize.accepted" not in await system.event_types(back.id)


async def test_what_is_refused_when_due_comes_again(
    own_nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "AGAIN_SECONDS", 0.5)
    refusals, outcomes = [Unavailable("The event log does not answer")] * 2, list[bool]()
    carry_out = due.carry_out

    async def refuses() -> None:
        if refusals:
            raise refusals.pop()

    async def tried(commands: Commands, server: Server, coming: Due) -> bool:
        outcomes.append(await carry_out(commands, server, coming))
        return outcomes[-1]

    monkeypatch.setattr(due, "carry_out", tried)
    async with System.open(own_nats, tmp_path, resize_confirm_seconds=3.0) as system:
        server = await resized(system)
        system.conductor.commands = system.conductor.commands.fenced(refuses)
        await system.when(server.id, lambda now: now.vm_state == "active")
        await system.until(lambda: True in outcomes)  # the command is answered once the read model shows it
        assert outcomes == [False, False, True]


async def test_after_a_reset_the_history_says_what_the_guest_does(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        await system.do("reset-state", server.id, {"state": "error"}, actor=ADMIN)
        (said,) = await told(system, server.id)
        assert said == f"reset-state: host {server.host} shows the guest as running"


async def test_an_administrators_word_stands_for_a_while_against_the_guest(
    own_nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SYNC_SECONDS", 3)
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        await system.do("stop", server.id)
        server = await system.do("reset-state", server.id, {"state": "active"}, actor=ADMIN)
        assert server.vm_state == "active"
        server = await system.when(server.id, lambda now: now.vm_state == "stopped")
        synced, looked = await told(system, server.id, 2)
        assert looked.startswith(f"reset-state: host {server.host} shows the guest as shutdown; unless that changes")
        assert synced == "power sync: the guest is still shutdown"


async def test_a_reset_cancels_what_is_open_and_says_when_nobody_answers(
    own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with System.open(own_nats, tmp_path, host_down_after=60.0) as system:
        server = await system.create()
        await system.stop_agents()
        await system.commands.server("pause", server.id, {}, context())
        await system.commands.server("reset-state", server.id, {"state": "error"}, context(ADMIN))
        (said,) = await told(system, server.id)
        assert said == f"reset-state: host {server.host} does not answer; what the guest does is not known"
        actions: dict[str, Any] = {one.action: one for one in await system.read.actions(server.id)}
        assert (actions["pause"].outcome, actions["resetState"].outcome) == ("cancelled", "succeeded")
        assert "ended by reset-state" in str(actions["pause"].text)


@pytest.mark.parametrize("ending", ["delete", "soft-delete", "reset-state"])
async def test_what_an_operation_took_is_given_back_when_it_is_ended(
    own_nats: EmbeddedNats, tmp_path: Path, ending: str
) -> None:
    async with System.open(own_nats, tmp_path, host_down_after=60.0) as system:
        server = await system.create()
        await system.stop_agents()
        await system.commands.create("image", {"name": "made", "status": "queued"}, context(ADMIN), id="made")
        await system.commands.server("create-image", server.id, {"image_id": "made", "name": "made"}, context())
        params = {"state": "error"} if ending == "reset-state" else {}
        await system.commands.server(ending, server.id, params, context(ADMIN))
        await system.start_agents()
        await system.settled(server.id)
        async with asyncio.timeout(WAIT_SECONDS):
            while (image := await system.commands.load("image", "made")) is not None and not image.deleted:
                await asyncio.sleep(0.02)


async def test_a_reset_takes_the_interface_off_the_server_and_the_guest_before_its_port_is_given_back(
    own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with System.open(own_nats, tmp_path, host_down_after=60.0) as system:
        server = await system.create()
        await system.stop_agents()
        port_id = str(uuid4())
        params = {"port_id": port_id, "network_id": system.network_id, "create": True}
        await system.commands.server("attach-interface", server.id, params, context())
        await system.when(server.id, lambda now: len(now.interfaces) == 2)
        await system.commands.server("reset-state", server.id, {"state": "active"}, context(ADMIN))
        assert (await system.server(server.id)).interfaces == server.interfaces
        assert await system.commands.load("port", port_id) is not None  # the guest may have it yet
        await system.start_agents()
        async with asyncio.timeout(WAIT_SECONDS):
            while (port := await system.commands.load("port", port_id)) is not None and not port.deleted:
                await asyncio.sleep(0.02)
        await assert_log_is_legal(system)


@pytest.mark.parametrize("then", [None, "delete"])
async def test_a_reset_while_nobody_conducts_is_seen_to_by_the_next_conductor(
    own_nats: EmbeddedNats, tmp_path: Path, then: str | None
) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        await system.stop_conductor()
        await system.commands.create("image", {"name": "made", "status": "queued"}, context(ADMIN), id="made")
        await system.commands.server("create-image", server.id, {"image_id": "made", "name": "made"}, context())
        await system.commands.server("reset-state", server.id, {"state": "error"}, context(ADMIN))
        if then is not None:
            await system.commands.server(then, server.id, {}, context())
        await system.start_conductor()
        async with asyncio.timeout(WAIT_SECONDS):
            while (image := await system.commands.load("image", "made")) is not None and not image.deleted:
                await asyncio.sleep(0.02)
        if then is None:
            assert await told(system, server.id) == [f"reset-state: host {server.host} shows the guest as running"]
        await system.when(server.id, lambda now: now.due is None and now.operation is None)
        await assert_log_is_legal(system)


async def test_a_look_that_failed_comes_again(
    own_nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "AGAIN_SECONDS", 0.5)
    failed = False
    look = resets.look

    async def fails_once(commands: Commands, server: Server) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise RuntimeError("cut off")
        await look(commands, server)

    monkeypatch.setattr(resets, "look", fails_once)
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        await system.do("reset-state", server.id, {"state": "error"}, actor=ADMIN)
        assert await told(system, server.id) == [f"reset-state: host {server.host} shows the guest as running"]
        assert failed
