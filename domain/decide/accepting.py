"""Whether a command may begin, and its first events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from domain.decide.context import Context, Decision
from domain.decide.instant import INSTANT
from domain.decide.requirements import CHECKS, ON_ACCEPT, nothing
from domain.decide.running import cancel_open, go_on
from domain.errors import Conflict, Gone, NotFound, NotImplementedHere
from domain.machine import MACHINE
from domain.machine.refusal import no_host
from domain.server import Operation, Server, ServerEvent, leave_guest
from domain.workflows import WORKFLOWS, taken_by

# Commands that end whatever is in progress instead of being refused by it.
SUPERSEDING = frozenset({"delete", "force-delete", "soft-delete", "reset-state", "reboot-hard", "evacuate"})
# What is plugged in or out has no task_state; were it cancelled half way, nobody would know what the guest has.
PLUGGING = frozenset(
    {"attach-volume", "detach-volume", "swap-volume", "extend-volume", "attach-interface", "detach-interface"}
)
PATIENT = frozenset({"soft-delete", "reboot-hard"})  # these wait for it; a delete takes all of it back
MOVES = frozenset({"migrate", "live-migrate", "evacuate"})


def refuse(server: Server, command: str, context: Context) -> None:
    """Raise the refusal that the machine has for this command now, in Nova's words."""
    if server.deleted:
        raise NotFound(f"Instance {server.id} could not be found.", hint="It was deleted; its history is still there.")
    refusal = MACHINE.refusal(
        command,
        vm_state=server.vm_state,
        task_state=server.task_state,
        launched=server.launched_at is not None,
        locked=server.locked,
        is_admin=context.is_admin,
        host=server.host,
        host_up=context.host_up,
    )
    if refusal is not None:
        raise Conflict(refusal.text(server.id), hint=refusal.hint, reason=refusal.reason, code=refusal.code)
    operation = server.operation
    if operation is not None and command in WORKFLOWS and not _supersedes(command, operation.command):
        raise Conflict(
            f"Instance {server.id} is in an invalid state for '{MACHINE.rule(command).action or command}'",
            hint=f"{operation.command} (request {operation.request_id}) is in progress. Try again when it has ended.",
            reason="busy",
        )


def _supersedes(command: str, running: str) -> bool:
    return command in SUPERSEDING and not (command in PATIENT and running in PLUGGING)


def must_be_possible(command: str) -> None:
    """Raise `NotImplementedHere` for a command of Nova's that the machine knows and nothing here carries out."""
    if command in WORKFLOWS or command in INSTANT:
        return
    raise NotImplementedHere(
        f"The command {command} is not carried out by this deployment.",
        hint="A server stays on its host. Make an image of it, create a new server from that on the host you want, "
        "and delete the old one."
        if command in MOVES
        else "Leave it out, or do it another way.",
        reason="not_carried_out",
    )


def accept(server: Server, command: str, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    """The events of a user's (or operator's) command. Raises `Rejected`."""
    if command == "reset-network":
        raise Gone(
            "This resource is no longer available. No forwarding address is given.",
            hint="A guest asks for its address again by itself: reboot it.",
        )
    if command in ("delete", "force-delete") and server.operation is not None:
        if server.deleted:
            refuse(server, command, context)
        if server.operation.command in ("delete", "force-delete") and (context.is_admin or not server.locked):
            return []  # already on its way; its deadline and the conductor see it through
    refuse(server, command, context)
    if command in INSTANT:
        events: list[ServerEvent] = INSTANT[command](server, params, context)
        return events
    must_be_possible(command)
    must_have_its_host(server, command, params, context)
    check = CHECKS.get(command)
    if check is not None:
        check(server, params, context)
    return _begin(server, command, params, context)


def must_have_its_host(server: Server, command: str, params: dict[str, Any], context: Context) -> None:
    """Refuse what only a host can do for a server that is on none, or on one that would fail in the middle of it."""
    begun = _begun(server, command, params, context)
    steps = [step for step in WORKFLOWS[command].steps if step.when is None or step.when(begun)]
    orders = [step.order for step in steps if step.order is not None]
    if server.host is None and orders and all(step.control != "schedule" for step in steps):
        refusal = no_host(MACHINE.rule(command))
        raise Conflict(refusal.text(server.id), hint=refusal.hint, reason=refusal.reason, code=refusal.code)
    # What the host can not do at all the first order tells, before anything has changed.
    lacking = next((order for order in orders[1:] if order in context.host_lacks), None)
    if lacking is not None:
        raise Conflict(
            f"The host of instance {server.id} can not do {lacking}, which {command} needs.",
            hint="Nothing was changed. Use a host with another driver.",
            reason="unsupported",
        )


def _begun(server: Server, command: str, params: dict[str, Any], context: Context) -> Server:
    """The server as the conditions of the command's steps will see it, which ask its operation, too."""
    operation = Operation(
        request_id=context.request_id,
        command=command,
        started_at=context.now,
        deadline=context.now,
        user_id=context.user_id,
        project_id=context.project_id,
        params=params,
        vm_state_before=server.vm_state,
    )
    return msgspec.structs.replace(server, operation=operation)


def _begin(server: Server, command: str, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    decision = Decision(server, context.now)
    ended = server.operation
    taken = None if ended is None else taken_by(ended.command, ended.params, ended.done)
    if taken is not None:
        params = params | {"superseded": taken}
    cancel_open(decision, f"superseded by {command}", context.request_id)
    if context.due_after.get(command, 0) > 0:
        params = params | {"due_seconds": context.due_after[command]}
    accepted = MACHINE.accept(command, decision.server.vm_state, decision.server.task_state)
    assert accepted is not None, "refuse() has asked the machine already"
    operation = Operation(
        request_id=context.request_id,
        command=command,
        started_at=context.now,
        deadline=context.now + timedelta(seconds=_deadline(command, params, context)),
        user_id=context.user_id,
        project_id=context.project_id,
        params=params,
        vm_state_before=decision.server.vm_state,
        power_state_before=decision.server.power_state,
    )
    patch: dict[str, Any] = {"vm_state": accepted[0], "task_state": accepted[1], "operation": operation, "progress": 0}
    if command in ("delete", "force-delete") and not context.host_up:
        patch |= leave_guest(decision.server)
    patch |= ON_ACCEPT.get(command, nothing)(decision.server, params, context)
    decision.add(command, "accepted", context.request_id, patch, message=context.why)
    go_on(decision, WORKFLOWS[command], after=None)
    return decision.events


def _deadline(command: str, params: dict[str, Any], context: Context) -> float:
    if context.deadline_seconds is not None:
        return context.deadline_seconds
    return MACHINE.rule(command).deadline_seconds + float(params.get("grace_seconds", 0))
