"""The conductor: workflows end whatever fails, restarts change nothing, deadlines hold, reports are checked."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from commands.audit import MachineAudit
from domain.errors import Unavailable
from domain.orders import LET_GO, SEVERAL, Fault, HostInventory, Report
from domain.resources import Volume
from domain.server import Server, decode_event, decode_server
from eventlog.nats_server import EmbeddedNats
from tests.system import System, context, new_server


async def leftovers(system: System) -> dict[str, int]:
    """What a server that is gone must not leave behind: ports, addresses, room on hosts."""
    await system.quiet()
    addresses: list[Any] = await system.read.resources("address")
    return {
        "ports": len(await system.read.resources("port")),
        "addresses": sum(address.port_id is not None for address in addresses),
        "memory": sum(view.used_memory_mb for view in system.conductor.capacity.view()),
        "servers": sum(host.servers for host in await system.read.hosts()),
    }


NOTHING = {"ports": 0, "addresses": 0, "memory": 0, "servers": 0}


async def assert_log_is_legal(system: System) -> None:
    audit = MachineAudit()
    async for batch in system.log.scan():
        for one in batch:
            assert audit.feed(one.commit) is None


async def test_the_whole_life_of_a_server(system: System) -> None:
    server = await system.create()
    assert (server.vm_state, server.power_state, server.guest_exists) == ("active", "running", True)
    assert len(server.interfaces) == 1
    for command, vm_state in (
        ("stop", "stopped"),
        ("start", "active"),
        ("reboot-soft", "active"),
        ("reboot-hard", "active"),
        ("pause", "paused"),
        ("unpause", "active"),
        ("suspend", "suspended"),
        ("resume", "active"),
        ("lock", "active"),
        ("unlock", "active"),
        ("delete", "deleted"),
    ):
        server = await system.do(command, server.id)
        assert (server.vm_state, server.task_state) == (vm_state, None), command
    assert await leftovers(system) == NOTHING
    await assert_log_is_legal(system)


async def test_a_build_that_fails_on_one_host_succeeds_on_another(system: System) -> None:
    await system.stop_agents()
    new = new_server()
    await system.commands.create_servers([new], context())
    server = await system.when(new.id, lambda now: now.operation and now.operation.step == "create_disk")
    first = server.host
    assert first is not None
    await send(system, server, first, outcome="failed", fault=Fault("disk_full", "The disk is full."), power_state=None)
    await system.start_agents()
    server = await system.settled(new.id)
    types = Counter(await system.event_types(server.id))
    assert (server.vm_state, types["server.create.succeeded"]) == ("active", 1)
    assert server.host not in (first, None)
    assert len(server.interfaces) == 1
    await system.do("delete", server.id)
    assert await leftovers(system) == NOTHING


@pytest.mark.parametrize("kind", ["create-disk", "config-drive", "spawn"])
async def test_a_build_that_fails_everywhere_ends_in_error_and_leaves_nothing(system: System, kind: str) -> None:
    server = await system.create(f"web-fail-{kind}")
    assert server.vm_state == "error"
    assert server.fault is not None
    assert "Exhausted all hosts available for retrying build failures" in server.fault.message
    assert not server.guest_exists
    assert await leftovers(system) == NOTHING
    server = await system.do("delete", server.id)
    assert server.vm_state == "deleted"
    await assert_log_is_legal(system)


async def test_no_valid_host_keeps_the_evidence(system: System) -> None:
    big = msgspec.structs.replace(new_server().flavor, ram=10**12)
    server = await system.create(flavor=big)
    assert server.vm_state == "error"
    assert server.fault is not None
    assert server.fault.message == "No valid host was found. There are not enough hosts available."
    commits = await system.log.read("server", server.id)
    bodies = [decode_event(event.type, event.data).body for one in commits for event in one.commit.events]
    evidence = next(body.details["placement"] for body in bodies if body.details)
    assert {one["filter"] for one in evidence["dropped"]} == {"MEMORY_MB"}
    assert {host for one in evidence["dropped"] for host in one["hosts"]} == set(system.hosts)


@pytest.mark.parametrize("command", ["stop", "pause", "suspend", "reboot-hard"])
async def test_a_failed_command_says_why_and_settles(system: System, command: str) -> None:
    order = {"stop": "power-off", "reboot-hard": "reboot-hard"}.get(command, command)
    server = await system.create(f"web-fail-{order}")
    server = await system.do(command, server.id)
    assert server.task_state is None
    assert server.fault is not None
    types = await system.event_types(server.id)
    assert types[-1] == f"server.{command}.failed"


async def test_a_deadline_ends_what_nobody_answers(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        await system.stop_agents()
        system.set(deadline_seconds=1.0)
        await system.commands.server("stop", server.id, {}, context())
        system.set(deadline_seconds=None)
        server = await system.settled(server.id)
        assert server.fault is not None
        assert "did not finish within 1 s" in server.fault.message
        assert server.fault.reason == "deadline"
        await system.start_agents()
        assert (await system.do("delete", server.id)).vm_state == "deleted"
        await assert_log_is_legal(system)


class AwayLog:
    """A fence of the steps' appends that raises, so often as it is told to, what a log that does not answer raises."""

    def __init__(self, system: System, refusals: float) -> None:
        self.left = refusals
        steps = system.conductor.steps
        system.conductor.steps = dataclasses.replace(steps, commands=steps.commands.fenced(self))

    async def __call__(self) -> None:
        if self.left > 0:
            self.left -= 1
            raise Unavailable("The event log does not answer")


async def test_a_step_waits_for_a_log_that_does_not_answer(system: System) -> None:
    away = AwayLog(system, 2)
    server = await system.create()
    assert (server.vm_state, away.left) == ("active", 0)
    commits = await system.log.read("server", server.id)
    faults = [decode_event(event.type, event.data).body.fault for one in commits for event in one.commit.events]
    assert [fault for fault in faults if fault is not None] == []


async def test_a_step_waits_no_longer_than_its_deadline(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, deadline_seconds=1.0) as system:
        away = AwayLog(system, float("inf"))
        new = new_server()
        await system.commands.create_servers([new], context())
        await system.when(new.id, lambda server: server.operation is None or server.operation.undoing)
        away.left = 0
        server = await system.settled(new.id)
        assert server.fault is not None
        assert (server.vm_state, server.fault.reason) == ("error", "deadline")
        await system.until(lambda: not system.conductor._tasks)
        assert not system.conductor.failed.done()
        await assert_log_is_legal(system)


async def test_delete_goes_through_while_building_and_leaves_nothing(system: System) -> None:
    new = new_server("web-hang-spawn")
    await system.commands.create_servers([new], context())
    await system.when(new.id, lambda server: server.task_state == "spawning")
    server = await system.do("delete", new.id)
    assert server.vm_state == "deleted"
    assert await leftovers(system) == NOTHING
    await assert_log_is_legal(system)


async def test_conductors_that_come_and_go_lose_and_double_nothing(system: System) -> None:
    """Twenty servers live while the conductor is replaced over and over."""
    news = [new_server(f"web-{number}") for number in range(20)]

    async def live(id_: str) -> None:
        await system.settled(id_)
        for command in ("stop", "start", "delete"):
            await system.do(command, id_)

    await system.commands.create_servers(news, context())
    lives = asyncio.gather(*(live(new.id) for new in news))
    replaced = 0
    while not lives.done():
        await asyncio.sleep(0.1 + 0.05 * replaced)  # ever longer: a slow machine gets on, too
        await system.stop_conductor()
        await system.start_conductor()
        replaced += 1
    await lives
    assert replaced >= 2
    for new in news:
        types = Counter(await system.event_types(new.id))
        for command in ("create", "stop", "start", "delete"):
            assert types[f"server.{command}.accepted"] == types[f"server.{command}.succeeded"] == 1
            assert types[f"server.{command}.step_started"] == types[f"server.{command}.step_finished"]
    assert await leftovers(system) == NOTHING
    await assert_log_is_legal(system)


async def test_agents_that_come_and_go_lose_and_double_nothing(system: System) -> None:
    news = [new_server(f"web-{number}") for number in range(10)]
    await system.commands.create_servers(news, context())
    for _ in range(3):
        await asyncio.sleep(0.1)
        await system.stop_agents()
        await system.start_agents()
    for new in news:
        server = await system.settled(new.id)
        assert server.vm_state == "active", server.fault
        types = Counter(await system.event_types(new.id))
        assert types["server.create.succeeded"] == 1


async def send(system: System, server: Server, sender: str, **fields: Any) -> None:
    report = observation(server, sender, **fields)
    await system.log.js.publish(f"reports.{sender}.{server.id}", msgspec.json.encode(report))


def observation(server: Server, sender: str, **fields: Any) -> Report:
    """A guest seen shut down, unless `fields` say otherwise."""
    given: dict[str, Any] = {
        "id": str(uuid4()),
        "host": sender,
        "server_id": server.id,
        "outcome": "observed",
        "generation": server.generation,
        "power_state": "shutdown",
        "reason": "guest powered itself off",
        "occurred_at": datetime.now(UTC),
    }
    return Report(**(given | fields))


async def test_a_guest_that_powers_itself_off_is_shown_with_the_reason(system: System) -> None:
    server = await system.create()
    assert server.host is not None
    await send(system, server, server.host)
    server = await system.when(server.id, lambda now: now.vm_state == "stopped")
    last = (await system.log.read("server", server.id))[-1].commit
    assert last.events[0].type == "server.power.observed"
    assert decode_event(last.events[0].type, last.events[0].data).body.message == "guest powered itself off"
    assert (await system.do("start", server.id)).vm_state == "active"


async def test_stale_and_foreign_reports_are_counted_and_dropped(system: System) -> None:
    server = await system.create()
    assert server.host is not None
    other = next(host for host in system.hosts if host != server.host)
    counts = system.conductor.reports.counts
    before = counts["stale"]
    await send(system, server, other)
    await send(system, server, server.host, generation=server.generation - 1)
    await send(system, server, server.host, host=other)
    await send(system, server, server.host, outcome="succeeded", order_id="1")
    await system.log.js.publish(f"reports.{other}.{server.id}", b"not a report")
    await system.until(lambda: counts["stale"] >= before + 3 and counts["broken"] == 1)
    now = await system.server(server.id)
    assert (now.version, now.vm_state) == (server.version, "active")


async def test_reports_that_come_together_are_settled_each_by_itself(system: System) -> None:
    server, gone = await system.create(), await system.create()
    assert server.host is not None
    reports = system.conductor.reports
    await system.until(lambda: not reports._tasks)  # what settled the servers is counted a moment later
    counts = reports.counts
    before = counts.copy()
    stale = observation(server, server.host, generation=server.generation - 1)
    together = [stale, "no report", observation(server, server.host)]
    await system.log.js.publish(f"reports.{server.host}.{SEVERAL}", msgspec.json.encode(together))
    await system.when(server.id, lambda now: now.vm_state == "stopped")
    await system.until(lambda: (counts - before).total() >= len(together))
    await system.until(lambda: not reports._tasks)
    assert counts - before == {"stale": 1, "broken": 1, "applied": 1}
    assert (await system.server(gone.id)).vm_state == "active"


async def test_a_guest_that_runs_behind_our_back_is_shut_down(system: System) -> None:
    server = await system.create()
    server = await system.do("stop", server.id)
    assert server.host is not None
    await send(system, server, server.host, power_state="running", reason="started outside chronova")
    await system.when(server.id, lambda now: now.operation is None and now.version >= server.version + 5)
    types = await system.event_types(server.id)
    assert "server.power-sync.succeeded" in types
    assert (await system.server(server.id)).vm_state == "stopped"


def _has_no(what: str, server: Server) -> bool:
    return not getattr(server, what)


async def test_what_a_guest_lets_go_of_late_is_detached_once_with_the_reason(system: System) -> None:
    volume = await system.commands.create("volume", {"status": "available", "size_gb": 1}, context())
    server = await system.create()
    host = server.host or ""
    spec = {"id": volume.id, "path": f"/nowhere/{volume.id}"}
    await system.do("attach-volume", server.id, {"volume": spec, "attachment_id": str(uuid4())})
    (interface,) = server.interfaces
    server = await system.do("lock", server.id)
    gone = {LET_GO: [volume.id, interface.port_id, "another"]}
    for left in ("volumes", "interfaces"):  # one at a time: the agent tells again what is left
        server = await system.when(server.id, lambda now: now.operation is None)
        for _ in range(2):
            await send(system, server, host, power_state="running", details=gone)
        server = await system.when(server.id, partial(_has_no, left))
    server = await system.settled(server.id)
    assert (server.vm_state, server.fault) == ("active", None)
    free = await system.commands.load("volume", volume.id)
    assert isinstance(free, Volume)
    assert free.status == "available"
    accepted = [
        (event.type, decode_event(event.type, event.data).body.message)
        for one in await system.log.read("server", server.id)
        for event in one.commit.events
        if event.type.startswith("server.detach-") and event.type.endswith(".accepted")
    ]
    late = "after its detach had given up waiting"
    assert accepted == [
        ("server.detach-volume.accepted", f"the guest let go of volume {volume.id} {late}"),
        ("server.detach-interface.accepted", f"the guest let go of interface {interface.port_id} {late}"),
    ]
    await assert_log_is_legal(system)


async def test_soft_deleted_servers_are_reclaimed_by_their_deadline(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, reclaim_seconds=3.0) as system:
        server = await system.create()
        await system.do("soft-delete", server.id)
        await system.stop_conductor()
        await system.start_conductor()
        await system.when(server.id, lambda now: now.vm_state == "deleted")
        states = [decode_server(one.commit.state).vm_state for one in await system.log.read("server", server.id)]
        assert "soft-delete" in states
        assert await leftovers(system) == NOTHING


async def test_restored_servers_are_not_reclaimed(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, reclaim_seconds=3.0) as system:
        server = await system.create()
        deleted = await system.do("soft-delete", server.id)
        server = await system.do("restore", server.id)
        assert deleted.due is not None
        await asyncio.sleep((deleted.due.at - datetime.now(UTC)).total_seconds() + 0.5)
        await system.quiet()
        assert (await system.server(server.id)).vm_state == "active"


async def test_a_deadline_that_falls_due_while_nats_is_away_still_ends_the_action(
    own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        await system.stop_agents()
        system.set(deadline_seconds=1.0)
        await system.commands.server("stop", server.id, {}, context())
        await asyncio.to_thread(own_nats.stop)
        await asyncio.sleep(2.0)
        await asyncio.to_thread(own_nats.restart)
        await system.until(lambda: system.log.nc.is_connected)
        server = await system.settled(server.id)
        assert server.fault is not None
        assert server.fault.reason == "deadline"


async def test_an_agent_can_not_speak_for_another_host(system: System) -> None:
    counts = system.conductor.reports.counts
    before = counts["stale"]
    told = HostInventory("host-2", "simulated", "simulated", 1, vcpus=1, memory_mb=1, disk_gb=1)
    await system.log.js.publish("reports.host-1.inventory", msgspec.json.encode(told))
    await system.until(lambda: counts["stale"] > before)
    assert system.conductor.capacity.hosts["host-2"].memory_mb > 1


async def test_hosts_that_register_at_once_get_numbers_of_their_own(system: System) -> None:
    numbers = {host.number for host in system.conductor.capacity.hosts.values()}
    assert len(numbers) == len(system.hosts)
