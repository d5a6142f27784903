"""Where Nova leaves a server stuck, or says what is not so: here it settles by a rule, and the history says why.

docs/restarts.md lists all of these weaknesses (W1 to W15) and the tests of the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from domain.errors import Conflict
from domain.server import FlavorSnapshot, Server
from eventlog.nats_server import EmbeddedNats
from tests.faults.proof import guests
from tests.system import ADMIN, WAIT_SECONDS, System, context

LARGER = FlavorSnapshot(id="2", name="m1.micro", vcpus=2, ram=192, disk=1)


@pytest.fixture
async def patient(own_nats: EmbeddedNats, tmp_path: Path) -> AsyncIterator[System]:
    """Hosts count as up though nobody hears them; what is busy is refused soon; deleted servers are kept."""
    given: dict[str, Any] = {"host_down_after": 3600.0, "busy_wait": 0.1, "reclaim_seconds": 3600.0}
    async with System.open(own_nats, tmp_path, **given) as opened:
        yield opened


async def shelved(system: System, name: str = "web") -> Server:
    server = await system.create(name)
    await system.commands.create("image", {"name": "shelf", "status": "queued"}, context(ADMIN), id="shelf")
    return await system.do("shelve", server.id, {"image_id": "shelf", "offload": True})


async def said(system: System, server_id: str, command: str) -> str:
    """What the history says of the last action of this command."""
    await system.read.wait_for(await system.log.last_position(), WAIT_SECONDS)
    actions = [one for one in await system.read.actions(server_id) if one.command == command]
    return f"{actions[0].outcome}: {actions[0].fault}"


async def test_an_unshelve_whose_image_is_gone_ends_with_the_reason(system: System) -> None:
    server = await shelved(system)
    await system.commands.delete("image", "shelf", context(ADMIN))
    server = await system.do("unshelve", server.id)
    assert (server.vm_state, server.task_state, server.host) == ("error", None, None)
    assert "Image shelf could not be found" in await said(system, server.id, "unshelve")
    assert (await system.do("delete", server.id)).vm_state == "deleted"


async def test_an_unshelve_that_fails_on_every_host_can_be_tried_again(system: System) -> None:
    server = await shelved(system)
    await system.do("update", server.id, {"name": "web-fail-spawn"})
    server = await system.do("unshelve", server.id)
    assert (server.vm_state, server.task_state, server.host) == ("shelved_offloaded", None, None)
    assert (await said(system, server.id, "unshelve")).startswith("failed: ")
    assert guests(system.directory) == {}
    await system.do("update", server.id, {"name": "web"})
    assert (await system.do("unshelve", server.id)).vm_state == "active"


async def test_a_build_that_takes_too_long_ends_in_error_and_leaves_nothing(patient: System) -> None:
    patient.set(deadline_seconds=2.0)
    server = await patient.create("web-hang-spawn")
    assert (server.vm_state, server.task_state, server.host) == ("error", None, None)
    ended = await said(patient, server.id, "create")  # told by the control plane or by the host, who comes first
    assert "did not finish within 2 s" in ended or "did not end before its deadline" in ended
    assert guests(patient.directory) == {}


async def test_a_restore_that_fails_leaves_the_server_as_it_was_with_its_time(patient: System) -> None:
    server = await patient.create("web-failonce-power-on")
    gone = await patient.do("soft-delete", server.id)
    assert gone.due is not None
    again = await patient.do("restore", server.id)
    assert (again.vm_state, again.task_state, again.due) == ("soft-delete", None, gone.due)
    assert again.soft_deleted_at == gone.soft_deleted_at
    assert (await said(patient, server.id, "restore")).startswith("failed: ")
    back = await patient.do("restore", server.id)
    assert (back.vm_state, back.due) == ("active", None)


async def test_a_revert_whose_host_is_silent_ends_at_its_deadline(patient: System) -> None:
    server = await patient.create()
    await patient.do("resize", server.id, {"flavor": msgspec.to_builtins(LARGER)})
    await patient.stop_agents()
    patient.set(deadline_seconds=1.0)
    server = await patient.do("revert-resize", server.id)
    assert server.task_state is None
    assert f"still waited for host {server.host}" in await said(patient, server.id, "revert-resize")


async def test_nothing_overlaps_with_a_confirmation_that_shows_no_task(patient: System) -> None:
    server = await patient.create("web-slow-resize-confirm")
    await patient.do("resize", server.id, {"flavor": msgspec.to_builtins(LARGER)})
    await patient.commands.server("confirm-resize", server.id, {}, context())
    with pytest.raises(Conflict) as refused:
        await patient.commands.server("revert-resize", server.id, {}, context())
    assert refused.value.reason == "busy"
    server = await patient.settled(server.id)
    assert (server.vm_state, server.flavor) == ("active", LARGER)


async def test_a_shelve_that_fails_after_its_power_off_leaves_stopped(system: System) -> None:
    server = await system.create("web-fail-snapshot")
    await system.commands.create("image", {"name": "shelf", "status": "queued"}, context(ADMIN), id="shelf")
    server = await system.do("shelve", server.id, {"image_id": "shelf", "offload": True})
    assert (server.vm_state, server.task_state, server.power_state) == ("stopped", None, "shutdown")
    assert (await said(system, server.id, "shelve")).startswith("failed: ")


async def test_a_delete_that_no_host_has_heard_of_goes_through_and_may_be_asked_for_again(patient: System) -> None:
    server = await patient.create()
    await patient.stop_agents()
    for _ in range(2):
        await patient.commands.server("delete", server.id, {}, context())
    assert (await patient.server(server.id)).task_state == "deleting"
    await patient.start_agents()
    assert (await patient.settled(server.id)).vm_state == "deleted"
    types = await patient.event_types(server.id)
    assert types.count("server.delete.accepted") == types.count("server.delete.succeeded") == 1


async def test_an_unshelve_that_nobody_conducts_goes_on_with_the_next_conductor(system: System) -> None:
    server = await shelved(system)
    await system.stop_conductor()
    await system.commands.server("unshelve", server.id, {}, context())
    assert (await system.server(server.id)).task_state == "unshelving"
    await system.start_conductor()
    server = await system.settled(server.id)
    assert (server.vm_state, server.power_state, server.shelved_image_id) == ("active", "running", None)


@pytest.mark.parametrize("command", ["soft-delete", "reboot-hard"])
async def test_no_other_command_ends_what_is_being_plugged(patient: System, command: str) -> None:
    server = await patient.create("web-slow-attach-interface")
    port = {"port_id": str(uuid4()), "network_id": patient.network_id, "create": True}
    await patient.commands.server("attach-interface", server.id, port, context())
    with pytest.raises(Conflict) as refused:
        await patient.commands.server(command, server.id, {}, context())
    assert refused.value.reason == "busy"
    assert len((await patient.settled(server.id)).interfaces) == 2
