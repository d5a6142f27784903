"""A server that is on no host: whatever is legal then either is refused at once or waits for nobody."""

from __future__ import annotations

from typing import Any

import pytest

from domain import decide
from domain.decide import StepOutcome
from domain.errors import Rejected
from domain.machine import MACHINE
from domain.server import Server
from domain.workflows import WORKFLOWS
from tests.unit.test_domain_decide import BACKED, NOW, context, params_of, run, server

STATES = ("error", "active", "stopped", "shelved_offloaded", "soft-delete")


def homeless(vm_state: str, **changes: Any) -> Server:
    given: dict[str, Any] = {"host": None, "host_id": None, "guest_exists": False, "shelved_image_id": "image-3"}
    return server(vm_state, **(given | changes))


def carried_out(state: Server) -> Server:
    """Every step of the conductor succeeds; it finds a host where it looks for one."""
    while (operation := state.operation) is not None:
        assert operation.awaits == "conductor" or state.host is not None, f"{operation.command} waits for nobody"
        if operation.awaits == "agent":
            return state
        patch = {"host": "host-1"} if operation.step == "schedule" else {}
        state = run(state, decide.advance(state, StepOutcome(operation.step, True, patch=patch), NOW))
    return state


@pytest.mark.parametrize("backed", BACKED)
@pytest.mark.parametrize("vm_state", STATES)
def test_no_command_waits_for_a_host_that_is_not_there(vm_state: str, backed: str) -> None:
    done, refused = [], {}
    for command in WORKFLOWS:
        if command == "create" or MACHINE.accept(command, vm_state, None) is None:
            continue
        start = homeless(vm_state, **BACKED[backed])
        try:
            events = decide.accept(start, command, params_of(command, backed), context(is_admin=True))
        except Rejected as rejected:
            refused[command] = rejected.code
            continue
        carried_out(run(start, events))
        done.append(command)
    assert {"delete", "force-delete", "soft-delete"} <= set(done)
    assert set(refused.values()) <= {400, 404, 409, 501}, refused


@pytest.mark.parametrize("command", ["rebuild", "inject-network-info"])
def test_what_needs_a_host_says_so(command: str) -> None:
    with pytest.raises(Rejected, match="is not ready") as refused:
        decide.accept(homeless("error"), command, params_of(command, "image"), context(is_admin=True))
    assert (refused.value.code, refused.value.reason) == (409, "no_host")


def test_an_offloaded_server_is_restored_as_the_one_that_it_was() -> None:
    start = homeless("shelved_offloaded", volumes=())
    gone = carried_out(run(start, decide.accept(start, "soft-delete", {}, context())))
    assert (gone.vm_state, gone.operation) == ("soft-delete", None)
    back = carried_out(run(gone, decide.accept(gone, "restore", {}, context())))
    assert (back.vm_state, back.shelved_image_id, back.soft_deleted_at) == ("shelved_offloaded", "image-3", None)
