"""For every step of every workflow, as they are declared: it fails, it is repeated, its undos are repeated.

And the conductor dies when a step or an undo of its own is done but not yet noted, and the server is deleted while a
step goes on. Whatever happens, the action ends, the machine allows every event, and nothing stays of a server that is
gone: guests, ports, addresses, room, volumes that somebody reserved, images that nobody will finish.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from domain.workflows import WORKFLOWS
from tests.faults.catalogue import BEFORE, BEFORE_STEP, CASES, Case, named
from tests.faults.lab import Lab
from tests.system import context

IN_LAB = pytest.mark.asyncio(loop_scope="module")

DELETES = ("delete", "force-delete")
TAKES = (  # controls that take something which is not the server's own yet
    *("create_ports", "allocate_port", "create_volumes", "record_volumes", "create_snapshots"),
    *("begin_attach", "record_volume", "begin_swap", "record_swap"),
)


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


EVERY = list(CASES)
CONTROL = [case for case in CASES if case.step.control]
UNDOABLE = [case for case in CASES if case.undos()]
CONTROL_UNDO = [case for case in UNDOABLE if any(undo.control for undo in case.undos())]
DELETABLE = [case for case in CASES if case.command not in DELETES]
TAKING = [case for case in DELETABLE if case.step.control in TAKES]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with Lab.open(tmp_path_factory.mktemp("trio")) as opened:
        yield opened


def test_the_tables_name_only_what_there_is() -> None:
    steps = {(command, step.name) for command, workflow in WORKFLOWS.items() for step in workflow.steps}
    assert set(BEFORE) <= set(WORKFLOWS)
    assert set(BEFORE_STEP) <= steps


def _failing_name(case: Case) -> str:
    return f"web-{named('fail', case.step)}" if case.step.order else "web"


@IN_LAB
@pytest.mark.xdist_group("faults-trio-1")
@each(EVERY)
async def test_a_step_that_fails_leaves_nothing(lab: Lab, case: Case) -> None:
    name = _failing_name(case)
    server_id, volume_id = await lab.prepared(case, name)
    lab.faults(failing=case.step.control or "")
    await lab.give(case.command, server_id, volume_id, name)
    server = await lab.system.settled(server_id)
    assert server.fault is not None
    assert server.task_state is None
    assert await lab.last_end(server_id, case.command) == "failed"
    await lab.at_rest(server_id)


@IN_LAB
@pytest.mark.xdist_group("faults-trio-1")
@each(EVERY)
async def test_steps_that_are_repeated_are_done_once(lab: Lab, case: Case) -> None:
    server_id, volume_id = await lab.prepared(case, "web")
    lab.faults(twice=True)
    async with lab.echoed():
        await lab.give(case.command, server_id, volume_id)
        await lab.system.settled(server_id)
        assert await lab.last_end(server_id, case.command) == "succeeded"
        assert (case.step.name, False) in await lab.steps_begun(server_id, case.command)
        await lab.at_rest(server_id)


@IN_LAB
@pytest.mark.xdist_group("faults-trio-1")
@each(UNDOABLE)
async def test_undos_that_are_repeated_take_back_once(lab: Lab, case: Case) -> None:
    name = _failing_name(case)
    server_id, volume_id = await lab.prepared(case, name)
    lab.faults(failing=case.step.control or "", twice=True)
    async with lab.echoed():
        await lab.give(case.command, server_id, volume_id, name)
        await lab.system.settled(server_id)
        begun = await lab.steps_begun(server_id, case.command)
        assert begun >= {(undo.name, True) for undo in case.undos() if undo.order or not case.step.control}
        await lab.at_rest(server_id)


@IN_LAB
@pytest.mark.xdist_group("faults-trio-2")
@each(CONTROL)
async def test_a_conductor_that_dies_between_a_step_and_its_note(lab: Lab, case: Case) -> None:
    """The next one does the step again, and it is done once all the same."""
    server_id, volume_id = await lab.prepared(case, "web")
    faults = lab.faults(command=case.command, hanging=case.step.control)
    await lab.give(case.command, server_id, volume_id)
    await asyncio.wait_for(faults.reached.wait(), 60)
    await lab.another_conductor()
    await lab.system.settled(server_id)
    assert await lab.last_end(server_id, case.command) == "succeeded"
    await lab.at_rest(server_id)


@IN_LAB
@pytest.mark.xdist_group("faults-trio-2")
@each(CONTROL_UNDO)
async def test_a_conductor_that_dies_between_an_undo_and_its_note(lab: Lab, case: Case) -> None:
    undo = next(undo for undo in case.undos() if undo.control)
    name = _failing_name(case)
    server_id, volume_id = await lab.prepared(case, name)
    faults = lab.faults(failing=case.step.control or "", command=case.command, hanging=undo.control, hangs_undo=True)
    await lab.give(case.command, server_id, volume_id, name)
    await asyncio.wait_for(faults.reached.wait(), 60)
    await lab.another_conductor()
    server = await lab.system.settled(server_id)
    assert await lab.last_end(server_id, case.command) in ("failed", "succeeded"), server
    await lab.at_rest(server_id)


@IN_LAB
@pytest.mark.xdist_group("faults-trio-2")
@each(DELETABLE)
async def test_a_delete_in_the_middle_of_a_step_leaves_nothing(lab: Lab, case: Case) -> None:
    """Whatever the step does late, or did before it was noted."""
    name = f"web-{named('hang', case.step)}" if case.step.order else "web"
    server_id, volume_id = await lab.prepared(case, name)
    faults = lab.faults(command=case.command, hanging=case.step.control or "", before_it=True)
    await lab.give(case.command, server_id, volume_id, name)
    await lab.system.when(server_id, lambda now: now.operation is not None and now.operation.step == case.step.name)
    if case.step.control:
        await asyncio.wait_for(faults.reached.wait(), 60)
    await lab.system.commands.server("force-delete", server_id, {}, context())
    await lab.system.settled(server_id)
    faults.go.set()
    await lab.system.until(lambda: not lab.system.conductor._tasks)
    await lab.at_rest(server_id)


@IN_LAB
@pytest.mark.xdist_group("faults-trio-2")
@each(TAKING)
async def test_a_conductor_that_dies_with_what_came_too_late(lab: Lab, case: Case) -> None:
    """What the step took after the delete had given back all there was, and the log alone knows of."""
    server_id, volume_id = await lab.prepared(case, "web")
    faults = lab.faults(command=case.command, hanging=case.step.control, before_it=True, forgets=True)
    await lab.give(case.command, server_id, volume_id)
    await asyncio.wait_for(faults.reached.wait(), 60)
    await lab.system.commands.server("force-delete", server_id, {}, context())
    await lab.system.settled(server_id)
    faults.go.set()
    await lab.system.until(lambda: not lab.system.conductor._tasks)
    await lab.another_conductor()
    await lab.system.quiet()
    await lab.system.conductor.sweep.look(datetime.now(UTC))
    await lab.at_rest(server_id)
