"""An administrator resets a server in the middle of every step of a host: it settles, and log and guest agree again.

The host is at the step, or was done with it and nobody heard. What the guest has is then what the log says: devices
that were being plugged in are out and free for others, devices that were being taken out are there or gone for good,
and what a host was told before the reset is not done after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio

from commands import resets
from domain.resources import Volume
from domain.server import Server
from tests.faults.catalogue import CASES, Case, named
from tests.faults.lab import Lab
from tests.faults.proof import guests
from tests.system import WAIT_SECONDS, context

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("faults-reset")]

OF_A_HOST = [case for case in CASES if case.step.order and case.command != "settle"]
PLUGGING = ("attach-volume", "detach-volume", "swap-volume", "extend-volume", "attach-interface", "detach-interface")
PLUGS = [case for case in OF_A_HOST if case.command in PLUGGING]
ATTACH = next(case for case in PLUGS if case.command == "attach-volume")
SNAPSHOT = next(case for case in OF_A_HOST if (case.command, case.step.name) == ("create-image", "snapshot"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with Lab.open(tmp_path_factory.mktemp("reset")) as opened:
        yield opened


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


async def at_the_step(lab: Lab, case: Case, name: str) -> str:
    """A server whose host is told to do this step; its id."""
    server_id, volume_id = await lab.prepared(case, name)
    await lab.give(case.command, server_id, volume_id, name)
    await lab.system.when(server_id, lambda now: now.operation is not None and now.operation.step == case.step.name)
    return server_id


async def is_settled(lab: Lab, server_id: str) -> Server:
    server = await lab.system.when(server_id, lambda now: not now.owed and now.operation is None)
    await assert_guest_is_as_the_log_says(lab, server)
    return server


async def assert_guest_is_as_the_log_says(lab: Lab, server: Server) -> None:
    guest = guests(lab.system.directory).get(server.id)
    if guest is None or not guest.get("defined"):
        return
    held = {one.volume_id for one in server.volumes}
    assert set(guest.get("volumes", {})) == held
    assert set(guest.get("nics", {})) == {one.port_id for one in server.interfaces}
    for one in await lab.system.read.resources("volume"):
        volume = cast(Volume, await lab.system.commands.load("volume", one.id))
        mine = [fact for fact in volume.attachments if fact["server_id"] == server.id]
        assert (volume.status, len(mine)) == (("in-use", 1) if volume.id in held else ("available", 0)), volume


@each(OF_A_HOST)
async def test_in_the_middle_of_a_step(lab: Lab, case: Case) -> None:
    server_id = await at_the_step(lab, case, f"web-{named('hang', case.step)}")
    await lab.reset(server_id)
    server = await is_settled(lab, server_id)
    assert (server.vm_state, server.task_state) == ("active", None)
    assert await lab.last_end(server_id, case.command) == "cancelled"
    assert await lab.last_end(server_id, "settle") == "succeeded"
    await lab.at_rest(server_id)


@each(PLUGS)
async def test_of_a_step_that_was_done_and_nobody_heard(lab: Lab, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    server_id, volume_id = await lab.prepared(case, "web")
    with monkeypatch.context() as deaf:
        deaf.setattr(lab.system.conductor.reports, "_events", lambda server, report: [])
        await lab.give(case.command, server_id, volume_id)
        server = await lab.system.when(
            server_id, lambda now: now.operation is not None and now.operation.step == case.step.name
        )
        await lab.system.until(lambda: guests(lab.system.directory)[server_id]["generation"] == server.generation)
        await lab.reset(server_id)
    await is_settled(lab, server_id)
    await lab.at_rest(server_id)


@each([case for case in CASES if case.command in PLUGGING and case.step.control])
async def test_between_a_step_of_the_conductor_and_its_note(lab: Lab, case: Case) -> None:
    server_id, volume_id = await lab.prepared(case, "web")
    faults = lab.faults(command=case.command, hanging=case.step.control)
    await lab.give(case.command, server_id, volume_id)
    await asyncio.wait_for(faults.reached.wait(), 60)
    await lab.reset(server_id)
    faults.go.set()
    await lab.system.when(server_id, lambda now: not now.owed and now.operation is None)
    await lab.system.until(lambda: not lab.system.conductor._tasks)
    await is_settled(lab, server_id)
    await lab.at_rest(server_id)


async def test_a_delete_gives_back_what_a_reset_left(lab: Lab) -> None:
    """No host settles it before: it is told to fail."""
    server_id = await at_the_step(lab, ATTACH, "web-hang-attach-volume-fail-settle")
    await lab.reset(server_id)
    await lab.system.when(server_id, lambda now: now.owed and now.owed[0].tries and now.operation is None)
    await lab.system.commands.server("force-delete", server_id, {}, context())
    await lab.system.settled(server_id)
    assert ("give_back_owed", False) in await lab.steps_begun(server_id, "force-delete")
    await lab.at_rest(server_id)


async def test_what_could_not_be_settled_comes_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resets, "PAUSE_SECONDS", 0.1)
    server_id = await at_the_step(lab, ATTACH, "web-hang-attach-volume")
    lab.faults(failing="give_back_owed")
    await lab.reset(server_id)
    server = await lab.system.when(server_id, lambda now: now.owed and now.owed[0].tries >= 2)
    assert server.volumes == ()
    lab.faults()
    server = await is_settled(lab, server_id)
    assert server.fault is not None
    assert server.fault.reason == "told_to_fail"
    await lab.at_rest(server_id)


async def test_a_command_that_comes_before_it_is_settled_leaves_it_due(lab: Lab) -> None:
    server_id = await at_the_step(lab, SNAPSHOT, "web-hang-snapshot-slow-settle")
    before = (await lab.system.server(server_id)).operation
    assert before is not None
    await lab.reset(server_id)
    await lab.system.commands.server("reboot-hard", server_id, {}, context())
    server = await is_settled(lab, server_id)
    assert (server.vm_state, server.power_state) == ("active", "running")
    image: Any = await lab.system.commands.load("image", before.params["image_id"])
    assert image is None or image.deleted
    await lab.at_rest(server_id)


async def test_a_host_that_is_told_of_the_reset_does_nothing_of_before(lab: Lab) -> None:
    """The stop hung; it is not done when the server is active again by an administrator's word."""
    stop = next(case for case in OF_A_HOST if case.command == "stop")
    server_id = await at_the_step(lab, stop, "web-slow-power-off")
    await lab.reset(server_id)
    server = await is_settled(lab, server_id)
    async with asyncio.timeout(WAIT_SECONDS):
        while guests(lab.system.directory)[server_id]["generation"] != server.generation:
            await asyncio.sleep(0.01)
    assert guests(lab.system.directory)[server_id]["power_state"] == "running"
    await lab.at_rest(server_id)
