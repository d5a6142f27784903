"""For every step of create and delete, as the workflows declare them: it fails, it is repeated, its undo is repeated.

And the conductor dies when a step of its own is done but not yet noted. Whatever happens, a leak check before and after
shows that nothing stays of a server that is gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from commands.audit import MachineAudit
from commands.steps import Steps
from domain.decide import StepOutcome
from domain.orders import Fault
from domain.server import Server, decode_event
from domain.workflows import WORKFLOWS, Step
from eventlog.nats_server import EmbeddedNats
from tests.faults.proof import ENDS, guests
from tests.system import System, context, new_server

# Steps of a plain server. The others (volumes, the image of a shelved one) do not apply to it.
STEPS = [
    (command, step)
    for command in ("create", "delete")
    for step in WORKFLOWS[command].steps
    if step.name not in ("detach_volumes", "delete_shelved_image")
]
CREATE_STEPS = [step for command, step in STEPS if command == "create"]
ALL_UNDONE = "undo"  # the mark that another host is tried: it begins with the first undo, not by itself
EACH = pytest.mark.parametrize(("command", "step"), STEPS, ids=[f"{command}-{step.name}" for command, step in STEPS])
CREATE_EACH = pytest.mark.parametrize("step", CREATE_STEPS, ids=[step.name for step in CREATE_STEPS])


class FaultySteps(Steps):
    """The conductor's own steps: some fail, some are done twice, one never gets to tell that it is done."""

    failing: frozenset[str] = frozenset()
    hanging: str = ""
    twice: bool = False
    done: asyncio.Event

    async def run(self, control: str, server: Server) -> StepOutcome:
        assert server.operation is not None
        if control in self.failing and not server.operation.undoing:
            return StepOutcome(server.operation.step, False, fault=Fault("told_to_fail", f"{control} was told to fail"))
        outcome = await super().run(control, server)
        if self.twice:
            outcome = await super().run(control, server)
        if control == self.hanging:
            self.done.set()
            await asyncio.Event().wait()
        return outcome


def _faulty(system: System, **faults: Any) -> FaultySteps:
    steps = system.conductor.steps
    faulty = FaultySteps(steps.commands, steps.read, steps.capacity, steps.settings)
    for name, value in (faults | {"done": asyncio.Event()}).items():
        object.__setattr__(faulty, name, value)
    system.conductor.steps = faulty
    return faulty


@asynccontextmanager
async def echoed(system: System) -> AsyncIterator[Counter[str]]:
    """Every order and every report reaches its stream twice. The counter tells how many of which."""
    seen: set[tuple[str, bytes]] = set()
    counts: Counter[str] = Counter()

    async def again(message: Msg) -> None:
        if (message.subject, message.data) in seen:
            return
        seen.add((message.subject, message.data))
        counts[message.subject.split(".")[0]] += 1
        await system.log.nc.publish(message.subject, message.data)

    subscriptions = [await system.log.nc.subscribe(subject, cb=again) for subject in ("orders.>", "reports.>")]
    yield counts
    for subscription in subscriptions:
        await subscription.unsubscribe()


async def leftovers(system: System) -> dict[str, Any]:
    await system.read.wait_for(await system.log.last_position())
    addresses: list[Any] = await system.read.resources("address")
    return {
        "ports": [port.id for port in await system.read.resources("port")],
        "addresses": [address.id for address in addresses if address.port_id is not None],
        "room": [view.used_memory_mb for view in system.conductor.capacity.view()],
        "placed": [host.servers for host in await system.read.hosts()],
        "guests": guests(system.directory),
    }


async def assert_done_once(system: System, server_id: str) -> None:
    """Each action is accepted and ended once, what began has ended, and the machine allows every event."""
    audit = MachineAudit()
    actions: dict[str, Counter[str]] = {}
    steps: Counter[tuple[str, str, bool]] = Counter()
    for one in await system.log.read("server", server_id):
        assert audit.feed(one.commit) is None
        for event in one.commit.events:
            decoded = decode_event(event.type, event.data)
            body = decoded.body
            actions.setdefault(body.request_id, Counter())[decoded.phase] += 1
            if decoded.phase in ("step_started", "step_finished") and body.step != ALL_UNDONE:
                steps[body.request_id, body.step, body.undo] += 1 if decoded.phase == "step_started" else -1
    for phases in actions.values():
        assert phases["accepted"] == sum(phases[end] for end in ENDS) == 1, phases
    assert set(steps.values()) == {0}


def _name(step: Step, what: str = "fail") -> str:
    return f"web-{what}-{step.order.replace('_', '-')}" if step.order else "web"


async def _attempt(system: System, command: str, name: str) -> Server:
    """The command on a server of this name, until it ended; delete gets one that was there."""
    server = await system.create(name)
    return server if command == "create" else await system.do("delete", server.id)


async def _gone(system: System, server: Server) -> None:
    if server.vm_state != "deleted":
        server = await system.do("delete", server.id)
    assert server.vm_state == "deleted"
    await assert_done_once(system, server.id)


@EACH
async def test_a_step_that_fails_leaves_nothing(system: System, command: str, step: Step) -> None:
    before = await leftovers(system)
    control = frozenset({step.control} if step.control else ())
    faulty = _faulty(system, failing=control if command == "create" else frozenset())
    if command == "create":
        server = await _attempt(system, command, _name(step))
        assert (server.vm_state, server.fault is not None) == ("error", True)
        assert await leftovers(system) == before
    else:
        server = await system.create(_name(step, "failonce"))
        object.__setattr__(faulty, "failing", control)
        server = await system.do("delete", server.id)
        assert (server.vm_state, server.fault is not None) == ("error", True)
    object.__setattr__(faulty, "failing", frozenset())
    await _gone(system, server)
    assert await leftovers(system) == before


async def test_steps_that_are_repeated_are_done_once(system: System) -> None:
    before = await leftovers(system)
    _faulty(system, twice=True)
    async with echoed(system) as counts:
        server = await system.create()
        assert (server.vm_state, len(server.interfaces)) == ("active", 1)
        assert len((await leftovers(system))["ports"]) == 1
        await _gone(system, server)
        orders = [step for _, step in STEPS if step.order]
        assert counts["orders"] == len(orders)
        assert counts["reports"] >= len(orders)
        stale = system.conductor.reports.counts
        await system.until(lambda: stale["stale"] >= len(orders))
    await assert_done_once(system, server.id)
    assert await leftovers(system) == before


@CREATE_EACH
async def test_an_undo_that_is_repeated_takes_back_once(system: System, step: Step) -> None:
    before = await leftovers(system)
    _faulty(system, twice=True, failing=frozenset({step.control} if step.control else ()))
    async with echoed(system):
        server = await system.create(_name(step))
        assert server.vm_state == "error"
        undone = [one.body.undo for one in await _events(system, server.id) if one.phase == "step_finished"]
        assert undone.count(True) >= 1
        assert await leftovers(system) == before
        await _gone(system, server)
    assert await leftovers(system) == before


async def _events(system: System, server_id: str) -> list[Any]:
    commits = await system.log.read("server", server_id)
    return [decode_event(event.type, event.data) for one in commits for event in one.commit.events]


CONTROL = [(command, step) for command, step in STEPS if step.control]


@pytest.mark.parametrize(("command", "step"), CONTROL, ids=[f"{command}-{step.name}" for command, step in CONTROL])
async def test_a_conductor_that_dies_between_a_step_and_its_note(
    own_nats: EmbeddedNats, tmp_path: Path, command: str, step: Step
) -> None:
    """The next one does the step again, and it is done once all the same."""
    async with System.open(own_nats, tmp_path) as system:
        before = await leftovers(system)
        server = None if command == "create" else await system.create()
        faulty = _faulty(system, hanging=step.control)
        if server is None:
            new = new_server()
            await system.commands.create_servers([new], context())
            server_id = new.id
        else:
            server_id = server.id
            await system.commands.server("delete", server_id, {}, context())
        await asyncio.wait_for(faulty.done.wait(), 15)
        await system.stop_conductor()
        await system.start_conductor()
        server = await system.settled(server_id)
        assert server.vm_state == ("active" if command == "create" else "deleted")
        await _gone(system, server)
        assert await leftovers(system) == before
