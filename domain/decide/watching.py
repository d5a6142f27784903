"""What follows when time passes, a hypervisor shows something on its own, or an operator resolves a stuck undo."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain.decide.context import Context, Decision
from domain.decide.running import MAX_ATTEMPTS, UNDO_SECONDS, event_of, next_undo, settle, unwind
from domain.errors import Conflict, Invalid
from domain.machine import MACHINE
from domain.orders import Fault
from domain.server import LOOK, Due, Operation, Server, ServerEvent, leave_guest
from domain.workflows import WORKFLOWS

SYNC_SECONDS = 60  # how long a state that an administrator set stands against what the guest shows


def expire(server: Server, now: datetime) -> list[ServerEvent]:
    """End an operation whose deadline has passed. No events when there is nothing to end."""
    operation = server.operation
    if operation is None or now < operation.deadline:
        return []
    waited = int((operation.deadline - operation.started_at).total_seconds())
    by = {"agent": f"host {server.host}", "operator": "an operator"}.get(operation.awaits, "the control plane")
    fault = Fault(
        "deadline",
        f"{operation.command} did not finish within {waited} s: step {operation.step} still waited for {by}",
    )
    decision = Decision(server, now)
    phase = "undo" if operation.undoing else "step"
    decision.add(
        operation.command,
        "step_finished",
        operation.request_id,
        {},
        step=operation.step,
        event=None if operation.undoing else event_of(operation),
        host=server.host,
        fault=fault,
        undo=operation.undoing,
        details={"expired": phase},
    )
    if operation.undoing:
        settle(decision, msgspec.structs.replace(operation, fault=operation.fault or fault, attempt=MAX_ATTEMPTS))
    else:
        unwind(decision, WORKFLOWS[operation.command].step(operation.step), fault, unchanged=False)
    return decision.events


def observe(server: Server, power_state: str, reason: str, request_id: str, now: datetime) -> list[ServerEvent]:
    """What follows when a hypervisor shows a power state on its own (Nova's power sync rules).

    Nothing while an operation is in progress (its report tells), for a server without a guest, or when nothing is new.
    """
    if server.operation is not None or server.deleted or not server.guest_exists or server.host is None:
        return []
    vm_state = MACHINE.observe(server.vm_state, server.task_state, power_state)
    if vm_state == server.vm_state and power_state == server.power_state:
        return []
    decision = Decision(server, now)
    decision.add(
        "power",
        "observed",
        request_id,
        {"power_state": power_state, "vm_state": vm_state}
        | ({} if server.due is None or server.due.command == LOOK or vm_state == server.vm_state else {"due": None}),
        host=server.host,
        event="compute_stop_instance" if vm_state == "stopped" != server.vm_state else None,
        message=reason,
    )
    return decision.events


def looked_at(server: Server, power_state: str | None, request_id: str, now: datetime) -> list[ServerEvent]:
    """What a look at the hypervisor found after a reset of the state. `power_state` is null when nobody answered.

    The administrator's word stands for a while, so that something can be done with it; then the guest's own counts.
    """
    if server.operation is not None or server.due is None or server.due.command != LOOK:
        return []
    patch: dict[str, Any] = {"due": None}
    if server.host is None:
        message = "reset-state: the server is on no host"
    elif power_state is None:
        message = f"reset-state: host {server.host} does not answer; what the guest does is not known"
    else:
        message = f"reset-state: host {server.host} shows the guest as {power_state}"
        patch["power_state"] = power_state
        synced = MACHINE.observe(server.vm_state, server.task_state, power_state)
        if synced != server.vm_state:
            message += f"; unless that changes, the server becomes {synced} in {SYNC_SECONDS} s"
            patch["due"] = Due("power-sync", now + timedelta(seconds=SYNC_SECONDS))
    decision = Decision(server, now)
    decision.add("power", "observed", request_id, patch, host=server.host, message=message)
    return decision.events


def synced(server: Server, request_id: str, now: datetime) -> list[ServerEvent]:
    """The power sync that was due: the server becomes what its guest still shows."""
    if server.operation is not None or server.due is None or server.due.command != "power-sync":
        return []
    vm_state = MACHINE.observe(server.vm_state, server.task_state, server.power_state)
    decision = Decision(server, now)
    decision.add(
        "power",
        "observed",
        request_id,
        {"vm_state": vm_state, "due": None},
        host=server.host,
        event="compute_stop_instance" if vm_state == "stopped" != server.vm_state else None,
        message=f"power sync: the guest is still {server.power_state}",
    )
    return decision.events


def runs_though_stopped(server: Server) -> bool:
    """Whether the guest runs behind our back and has to be stopped (Nova: a guest started behind it is shut down)."""
    return (
        server.operation is None
        and server.vm_state == "stopped"
        and server.host is not None
        and server.power_state not in ("nostate", "shutdown", "crashed")
    )


def resolve_stuck(server: Server, how: str, context: Context) -> list[ServerEvent]:
    """An operator's word on a failed undo: retry it, skip it, or abandon the rest."""
    operation = server.operation
    if operation is None or not operation.stuck:
        raise Conflict(
            f"Instance {server.id} has no stuck operation",
            hint="chronova stuck list shows those that have.",
            reason="not_stuck",
        )
    decision = Decision(server, context.now)
    if how == "retry":
        deadline = context.now + timedelta(seconds=UNDO_SECONDS)
        next_undo(decision, msgspec.structs.replace(operation, deadline=deadline))
    elif how == "skip":
        _skip(decision, operation)
    elif how == "abandon":
        settle(decision, msgspec.structs.replace(operation, attempt=MAX_ATTEMPTS))
    else:
        raise Invalid(f"'{how}' is not one of retry, skip, abandon", hint="Say which of the three.")
    return decision.events


def _skip(decision: Decision, operation: Operation) -> None:
    """Go on as if the undo had succeeded. A guest that it should have destroyed is still its host's to destroy."""
    skipped = msgspec.structs.replace(operation, undone=(*operation.undone, operation.step), stuck=False)
    decision.add(
        operation.command,
        "step_finished",
        operation.request_id,
        {"operation": skipped} | (leave_guest(decision.server) if operation.step == "destroy" else {}),
        step=operation.step,
        host=decision.server.host,
        message="skipped by an operator",
        undo=True,
    )
    next_undo(decision, skipped)
