"""decide(state, command) -> events, for a server: the only place where its events come from.

Every function here is pure: it gets the server as it is, what is asked, and a `Context` (who, when, under which
request), and returns the events that follow, or raises `Rejected`. A command that is already satisfied returns no
events. Whether a command may begin is the machine's word (`domain.machine`); how it goes on is the workflow's
(`domain.workflows`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain.errors import Conflict, Gone, Invalid, NotFound
from domain.machine import MACHINE, UNCHANGED
from domain.orders import Fault, SubStep
from domain.server import EventBody, Operation, Server, ServerEvent, ServerFault, ServerPatch, evolve
from domain.workflows import KEEP, UNDO, WORKFLOWS, Step, Workflow, resize_record

MAX_ATTEMPTS = 3  # hosts tried for one build, as Nova's scheduler.max_attempts
UNDO_SECONDS = 300  # how long taking back a failed workflow may last

# Commands that end whatever is in progress instead of being refused by it.
SUPERSEDING = frozenset({"delete", "force-delete", "soft-delete", "reset-state", "reboot-hard", "evacuate"})


@dataclass(frozen=True)
class Context:
    """Who asks, when, and under which request id. `host_up` is what the control plane knows of the server's host."""

    now: datetime
    request_id: str
    user_id: str
    project_id: str | None
    is_admin: bool = False
    host_up: bool = True
    deadline_seconds: float | None = None


@dataclass(frozen=True)
class StepOutcome:
    """How a step ended, told by an agent's report or by the conductor. `patch`: fields of the server it found out."""

    step: str
    succeeded: bool
    patch: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    power_state: str | None = None
    unchanged: bool = False  # the step failed before it changed anything
    details: dict[str, Any] = field(default_factory=dict)
    sub_steps: tuple[SubStep, ...] = ()
    host: str | None = None


class _Stream:
    """The events decided so far and the state after them, so that each rule looks at the state it will meet."""

    def __init__(self, server: Server, now: datetime) -> None:
        self.server = server
        self.now = now
        self.events: list[ServerEvent] = []

    def add(self, command: str, phase: str, request_id: str, patch: dict[str, Any], **body: Any) -> None:
        event = ServerEvent(command, phase, EventBody(request_id=request_id, patch=ServerPatch(**patch), **body))
        self.events.append(event)
        self.server = evolve(self.server, event, self.now)


# --- accepting a command -----------------------------------------------------------------------------------------


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
    if operation is not None and command in WORKFLOWS and command not in SUPERSEDING:
        raise Conflict(
            f"Instance {server.id} is in an invalid state for '{MACHINE.rule(command).action or command}'",
            hint=f"{operation.command} (request {operation.request_id}) is in progress. Try again when it has ended.",
            reason="busy",
        )


def accept(server: Server, command: str, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    """The events of a user's (or operator's) command. Raises `Rejected`."""
    if command == "reset-network":
        raise Gone("This resource is no longer available. No forwarding address is given.")
    if command in ("delete", "force-delete") and server.operation is not None:
        if server.deleted:
            refuse(server, command, context)
        if server.operation.command in ("delete", "force-delete") and (context.is_admin or not server.locked):
            return []  # already on its way; its deadline and the conductor see it through
    refuse(server, command, context)
    if command in INSTANT:
        events: list[ServerEvent] = INSTANT[command](server, params, context)
        return events
    check = CHECKS.get(command)
    if check is not None:
        check(server, params, context)
    return _begin(server, command, params, context)


def _begin(server: Server, command: str, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    stream = _Stream(server, context.now)
    _cancel_open(stream, f"superseded by {command}", context.request_id)
    accepted = MACHINE.accept(command, stream.server.vm_state, stream.server.task_state)
    assert accepted is not None, "refuse() has asked the machine already"
    operation = Operation(
        request_id=context.request_id,
        command=command,
        started_at=context.now,
        deadline=context.now + timedelta(seconds=_deadline(command, params, context)),
        user_id=context.user_id,
        project_id=context.project_id,
        params=params,
        vm_state_before=stream.server.vm_state,
        power_state_before=stream.server.power_state,
    )
    patch: dict[str, Any] = {"vm_state": accepted[0], "task_state": accepted[1], "operation": operation, "progress": 0}
    if command in ("delete", "force-delete") and not context.host_up:
        patch["guest_exists"] = False  # nobody can destroy it now; the host's agent does when it comes back
    patch |= ON_ACCEPT.get(command, _nothing)(stream.server, params, context)
    stream.add(command, "accepted", context.request_id, patch)
    _continue(stream, WORKFLOWS[command], after=None)
    return stream.events


def _deadline(command: str, params: dict[str, Any], context: Context) -> float:
    if context.deadline_seconds is not None:
        return context.deadline_seconds
    return MACHINE.rule(command).deadline_seconds + float(params.get("grace_seconds", 0))


def _cancel_open(stream: _Stream, why: str, by_request: str) -> None:
    operation = stream.server.operation
    if operation is None:
        return
    stream.add(
        operation.command,
        "cancelled",
        operation.request_id,
        {"task_state": None, "operation": None},
        step=operation.step,
        message=f"{why} (request {by_request})",
        fault=Fault("cancelled", f"{operation.command} was {why}"),
        details={"params": _public(operation.params)},
    )


# --- running a workflow ------------------------------------------------------------------------------------------


def _continue(stream: _Stream, workflow: Workflow, after: str | None) -> None:
    step = workflow.next_step(stream.server, after)
    if step is None:
        _succeed(stream, workflow)
    else:
        _start_step(stream, step)


def _start_step(stream: _Stream, step: Step, task_state: str | None = KEEP) -> None:
    server, operation = stream.server, stream.server.operation
    assert operation is not None
    patch: dict[str, Any] = {}
    shown = step.task_state if task_state == KEEP else task_state
    if shown != KEEP:
        patch["task_state"] = shown
    if step.vm_state is not None:
        patch["vm_state"] = step.vm_state
    if step.order is not None:
        patch["generation"] = server.generation + 1
        if step.order in ("create_disk", "spawn"):
            patch["guest_exists"] = True
    patch["operation"] = msgspec.structs.replace(
        operation,
        step=step.name,
        step_started_at=stream.now,
        awaits="conductor" if step.order is None else "agent",
    )
    stream.add(
        operation.command,
        "step_started",
        operation.request_id,
        patch,
        step=step.name,
        event=step.event,
        host=server.host,
    )


def _succeed(stream: _Stream, workflow: Workflow) -> None:
    server, operation = stream.server, stream.server.operation
    assert operation is not None
    patch = {"task_state": None, "operation": None, "fault": None, "progress": _done_progress(operation)}
    patch |= workflow.finish(server, operation, stream.now, {})
    stream.add(operation.command, "succeeded", operation.request_id, patch, host=server.host)


def _done_progress(operation: Operation) -> int:
    return 100 if operation.command in ("rebuild", "resize", "migrate") else 0


def advance(server: Server, outcome: StepOutcome, now: datetime) -> list[ServerEvent]:
    """The events that follow when a step has ended. A step that is not the one in progress is stale: no events."""
    operation = server.operation
    if operation is None or operation.step != outcome.step:
        return []
    stream = _Stream(server, now)
    workflow = WORKFLOWS[operation.command]
    patch = dict(outcome.patch)
    if outcome.power_state is not None:
        patch["power_state"] = outcome.power_state
    if operation.undoing:
        _undo_step_ended(stream, outcome, patch)
        return stream.events
    step = workflow.step(operation.step)
    if outcome.succeeded:
        tried = (outcome.host,) if step.control == "schedule" and outcome.host else ()
        patch["operation"] = msgspec.structs.replace(
            operation,
            done=(*operation.done, operation.step),
            hosts_tried=(*operation.hosts_tried, *tried),
            params=operation.params | ({"result": outcome.details} if step.keeps_result else {}),
        )
    stream.add(
        operation.command,
        "step_finished",
        operation.request_id,
        patch,
        step=step.name,
        event=step.event or (None if outcome.succeeded else step.failed_event),
        host=outcome.host or server.host,
        fault=outcome.fault,
        details=outcome.details,
        sub_steps=outcome.sub_steps,
    )
    if outcome.succeeded:
        _continue(stream, workflow, after=step.name)
    else:
        _unwind(stream, step, outcome.fault or Fault("failed", "the step failed"), outcome.unchanged)
    return stream.events


def _unwind(stream: _Stream, step: Step, fault: Fault, unchanged: bool) -> None:
    """Take back what was done, the failed step first, then settle."""
    operation = stream.server.operation
    assert operation is not None
    workflow = WORKFLOWS[operation.command]
    done = [workflow.step(name) for name in reversed(operation.done)]
    first = [] if unchanged else [step]
    plan: list[str] = []
    for name in (candidate.undo for candidate in (*first, *done)):
        if name is not None and name not in plan:
            plan.append(name)
    params = operation.params | {"undo_plan": plan, "unchanged": unchanged and not plan}
    deadline = max(operation.deadline, stream.now + timedelta(seconds=UNDO_SECONDS)) if plan else operation.deadline
    undoing = msgspec.structs.replace(operation, undoing=True, fault=fault, params=params, deadline=deadline)
    _next_undo(stream, undoing)


def _next_undo(stream: _Stream, operation: Operation) -> None:
    server = stream.server
    plan = [name for name in operation.params["undo_plan"] if name not in operation.undone]
    if plan and UNDO[plan[0]].order is not None and server.host is None:
        _next_undo(stream, msgspec.structs.replace(operation, undone=(*operation.undone, plan[0])))
        return
    if not plan:
        _settle(stream, operation)
        return
    undo = UNDO[plan[0]]
    patch: dict[str, Any] = {
        "operation": msgspec.structs.replace(
            operation,
            step=undo.name,
            step_started_at=stream.now,
            awaits="conductor" if undo.order is None else "agent",
            stuck=False,
        )
    }
    if undo.order is not None:
        patch["generation"] = server.generation + 1
    stream.add(
        operation.command, "step_started", operation.request_id, patch, step=undo.name, host=server.host, undo=True
    )


def _undo_step_ended(stream: _Stream, outcome: StepOutcome, patch: dict[str, Any]) -> None:
    operation = stream.server.operation
    assert operation is not None
    if outcome.succeeded:
        if operation.step == "destroy":
            patch["guest_exists"] = False
        operation = msgspec.structs.replace(operation, undone=(*operation.undone, operation.step))
    else:
        operation = msgspec.structs.replace(operation, stuck=True, awaits="operator")
    patch["operation"] = operation
    stream.add(
        operation.command,
        "step_finished",
        operation.request_id,
        patch,
        step=outcome.step,
        host=outcome.host or stream.server.host,
        fault=outcome.fault,
        details=outcome.details,
        sub_steps=outcome.sub_steps,
        undo=True,
    )
    if outcome.succeeded:
        _next_undo(stream, operation)


def _settle(stream: _Stream, operation: Operation) -> None:
    """After the undo: try the next host, or end the action as failed in the state its rule names."""
    server, fault = stream.server, operation.fault or Fault("failed", "the operation failed")
    retry = (
        operation.command in ("create", "unshelve")
        and "schedule" in operation.done
        and operation.attempt < MAX_ATTEMPTS
        and fault.code not in ("unsupported", "deadline")
    )
    if retry:
        again = msgspec.structs.replace(
            operation,
            undoing=False,
            undone=(),
            done=tuple(name for name in operation.done if name == "find_image"),
            attempt=operation.attempt + 1,
            params={k: v for k, v in operation.params.items() if k not in ("undo_plan", "unchanged")},
        )
        stream.add(
            operation.command, "step_finished", operation.request_id, {"operation": again}, step="undo", undo=True
        )
        workflow = WORKFLOWS[operation.command]
        _start_step(stream, workflow.step("schedule"), task_state=MACHINE.rule(operation.command).accept_task_state)
        return
    unchanged = bool(operation.params.get("unchanged")) or fault.code == "unsupported"
    vm_state = failed_vm_state(server, operation, unchanged)
    patch: dict[str, Any] = {
        "vm_state": vm_state,
        "task_state": None,
        "operation": None,
        "fault": ServerFault(
            code=500, message=fault.message[:255], created=stream.now, details=fault.details, reason=fault.code
        ),
    }
    stream.add(operation.command, "failed", operation.request_id, patch, fault=fault, host=server.host)


def failed_vm_state(server: Server, operation: Operation, unchanged: bool) -> str:
    """Where a failed command leaves the server: among what the machine allows, what the guest shows.

    Nothing was changed: as it was. A reboot: active if the guest runs. A shelve that failed after the guest was shut
    down: stopped, for active would be a lie until the next power sync. Otherwise error where the machine has it.
    """
    allowed = MACHINE.outcome_vm_states(operation.command, "failed")
    before = server.vm_state
    may_stay = UNCHANGED in allowed or before in allowed
    if operation.command in ("reboot-soft", "reboot-hard") and not unchanged:
        wanted = "active" if server.power_state == "running" else "error"
        if wanted in allowed or (wanted == before and may_stay):
            return wanted
    if operation.command == "shelve" and server.power_state == "shutdown" and "stopped" in allowed:
        return "stopped"
    if unchanged and may_stay:
        return before
    if "error" in allowed:
        return "error"
    return before if may_stay else min(allowed)


# --- time, observation, operators --------------------------------------------------------------------------------


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
    stream = _Stream(server, now)
    phase = "undo" if operation.undoing else "step"
    stream.add(
        operation.command,
        "step_finished",
        operation.request_id,
        {},
        step=operation.step,
        event=None if operation.undoing else _event_of(operation),
        host=server.host,
        fault=fault,
        undo=operation.undoing,
        details={"expired": phase},
    )
    if operation.undoing:
        _settle(stream, msgspec.structs.replace(operation, fault=operation.fault or fault, attempt=MAX_ATTEMPTS))
    else:
        _unwind(stream, WORKFLOWS[operation.command].step(operation.step), fault, unchanged=False)
    return stream.events


def _event_of(operation: Operation) -> str | None:
    step = WORKFLOWS[operation.command].step(operation.step)
    return step.event or step.failed_event


def observe(server: Server, power_state: str, reason: str, request_id: str, now: datetime) -> list[ServerEvent]:
    """What follows when a hypervisor shows a power state on its own (Nova's power sync rules).

    Nothing while an operation is in progress (its report tells), for a server without a guest, or when nothing is new.
    """
    if server.operation is not None or server.deleted or not server.guest_exists or server.host is None:
        return []
    vm_state = MACHINE.observe(server.vm_state, server.task_state, power_state)
    if vm_state == server.vm_state and power_state == server.power_state:
        return []
    stream = _Stream(server, now)
    stream.add(
        "power",
        "observed",
        request_id,
        {"power_state": power_state, "vm_state": vm_state},
        host=server.host,
        event="compute_stop_instance" if vm_state == "stopped" != server.vm_state else None,
        message=reason,
    )
    return stream.events


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
        raise Conflict(f"Instance {server.id} has no stuck operation", reason="not_stuck")
    stream = _Stream(server, context.now)
    if how == "retry":
        deadline = context.now + timedelta(seconds=UNDO_SECONDS)
        _next_undo(stream, msgspec.structs.replace(operation, deadline=deadline))
    elif how == "skip":
        _next_undo(stream, msgspec.structs.replace(operation, undone=(*operation.undone, operation.step)))
    elif how == "abandon":
        _settle(stream, msgspec.structs.replace(operation, attempt=MAX_ATTEMPTS))
    else:
        raise Invalid(f"'{how}' is not one of retry, skip, abandon")
    return stream.events


def progress(server: Server, step: str, percent: int, now: datetime) -> list[ServerEvent]:
    """A long step tells how far it is. Only growth of ten points or more is worth an event."""
    operation = server.operation
    if operation is None or operation.step != step or percent < server.progress + 10 or percent >= 100:
        return []
    stream = _Stream(server, now)
    stream.add(
        operation.command,
        "step_started",
        operation.request_id,
        {"progress": percent},
        step=step,
        event=_event_of(operation) if not operation.undoing else None,
        host=server.host,
        message=f"{percent} %",
        undo=operation.undoing,
        details={"progress": percent},
    )
    return stream.events


# --- commands that are done at once -------------------------------------------------------------------------------


def _at_once(
    server: Server, command: str, context: Context, patch: dict[str, Any], details: dict[str, Any] | None = None
) -> list[ServerEvent]:
    stream = _Stream(server, context.now)
    rule = MACHINE.rule(command)
    event = rule.events[0] if rule.events else None
    stream.add(command, "accepted", context.request_id, {}, details=details or {})
    stream.add(command, "succeeded", context.request_id, patch, event=event, host=server.host)
    return stream.events


def _lock(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    owner = context.project_id == server.project_id
    if server.locked and owner and server.locked_by == "owner" and not context.is_admin:
        return []
    by = "owner" if owner else "admin"
    patch = {"locked_by": by, "locked_reason": params.get("reason")}
    return _at_once(server, "lock", context, patch, {"reason": params.get("reason")})


def _unlock(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    return _at_once(server, "unlock", context, {"locked_by": None, "locked_reason": None})


_UPDATABLE = ("name", "description", "hostname", "access_ip_v4", "access_ip_v6", "disk_config")


def _update(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    patch = {key: params[key] for key in _UPDATABLE if key in params and params[key] != getattr(server, key)}
    if not patch:
        return []
    before = {key: getattr(server, key) for key in patch}
    return _at_once(server, "update", context, patch, {"before": before, "after": patch})


MAX_METADATA = 128


def _metadata_set(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    wanted: dict[str, str] = params["metadata"] if params.get("replace") else server.metadata | params["metadata"]
    if len(wanted) > MAX_METADATA:
        raise Invalid("Maximum number of metadata items exceeds 128", code=403, reason="quota")
    if wanted == server.metadata:
        return []
    return _at_once(server, "metadata-set", context, {"metadata": wanted}, {"before": server.metadata, "after": wanted})


def _metadata_delete(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    key = params["key"]
    if key not in server.metadata:
        raise NotFound("Metadata item was not found")
    rest = {name: value for name, value in server.metadata.items() if name != key}
    return _at_once(server, "metadata-delete", context, {"metadata": rest}, {"key": key})


MAX_TAGS = 50


def _tags(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    wanted = tuple(dict.fromkeys(params["tags"]))
    if len(wanted) > MAX_TAGS:
        raise Invalid(f"The number of tags exceeded the per-server limit {MAX_TAGS}")
    if wanted == server.tags:
        return []
    return _at_once(server, "tags", context, {"tags": wanted}, {"before": [*server.tags], "after": [*wanted]})


def _reset_state(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    vm_state = params["state"]
    if vm_state not in ("active", "error"):
        raise Invalid(f"'{vm_state}' is not one of ['active', 'error']")
    stream = _Stream(server, context.now)
    _cancel_open(stream, "ended by reset-state", context.request_id)
    before = {"vm_state": server.vm_state, "task_state": server.task_state}
    moved = {"vm_state": vm_state, "task_state": None}
    stream.add("reset-state", "accepted", context.request_id, moved, details={"before": before, "after": vm_state})
    patch: dict[str, Any] = {}
    if vm_state == "error" and server.fault is None:
        message = f"An administrator set the state to error (request {context.request_id})"
        patch["fault"] = ServerFault(code=500, message=message, created=context.now, reason="reset_state")
    stream.add("reset-state", "succeeded", context.request_id, patch)
    return stream.events


def _security_group(command: str) -> Any:
    def decide(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
        group = params["group"]
        present = group in server.security_groups
        if command == "add-security-group":
            if present:
                return []
            groups = (*server.security_groups, group)
        else:
            if not present:
                message = f"Security group {group} not associated with the instance {server.id}"
                raise NotFound(message)
            groups = tuple(name for name in server.security_groups if name != group)
        return _at_once(server, command, context, {"security_groups": groups}, {"group": group})

    return decide


def _nothing_to_do(command: str) -> Any:
    def decide(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
        return _at_once(server, command, context, {}, _public(params))

    return decide


INSTANT: dict[str, Any] = {
    "lock": _lock,
    "unlock": _unlock,
    "update": _update,
    "metadata-set": _metadata_set,
    "metadata-delete": _metadata_delete,
    "tags": _tags,
    "reset-state": _reset_state,
    "add-security-group": _security_group("add-security-group"),
    "remove-security-group": _security_group("remove-security-group"),
    "inject-network-info": _nothing_to_do("inject-network-info"),
    "refresh-network": _nothing_to_do("refresh-network"),
}

_SECRETS = ("password", "admin_password", "user_data", "personality")


def _public(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters without what must not be shown."""
    return {key: "(redacted)" if key in _SECRETS else value for key, value in params.items()}


# --- what a command needs beyond its guard ------------------------------------------------------------------------


def _nothing(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    return {}


def _rebuild_changes(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    patch: dict[str, Any] = {
        "image_id": params["image"]["id"],
        "image_properties": params["image"].get("properties", {}),
    }
    for key in ("name", "metadata", "description", "key_name", "public_key", "user_data_id", "hostname"):
        if key in params:
            patch[key] = params[key]
    return patch


def _unshelve_changes(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    if params.get("availability_zone"):
        patch["pinned_availability_zone"] = params["availability_zone"]
    if "host" in params:
        patch["forced_host"] = params["host"]
    return patch


ON_ACCEPT: dict[str, Any] = {"rebuild": _rebuild_changes, "unshelve": _unshelve_changes}


def _check_resize(server: Server, params: dict[str, Any], context: Context) -> None:
    assert server.flavor is not None
    flavor = params["flavor"]
    if flavor["id"] == server.flavor.id:
        raise Invalid("When resizing, instances must change flavor!", hint="Choose another flavor.")
    if flavor["disk"] < server.flavor.disk and server.image_id:
        raise Invalid(
            "Flavor's disk is too small for requested image.",
            hint=f"The disk has {server.flavor.disk} GB and cannot shrink to {flavor['disk']} GB.",
        )


def _check_unshelve(server: Server, params: dict[str, Any], context: Context) -> None:
    if (params.get("availability_zone") or params.get("host")) and server.vm_state != "shelved_offloaded":
        raise Conflict(
            f"Cannot 'unshelve' instance {server.id} while it is in vm_state {server.vm_state}",
            hint="A zone or host can be chosen only for a server that is shelved_offloaded.",
        )


def _check_detach_interface(server: Server, params: dict[str, Any], context: Context) -> None:
    if all(interface.port_id != params["port_id"] for interface in server.interfaces):
        raise NotFound(f"Port {params['port_id']} not found.")


def _check_attach_volume(server: Server, params: dict[str, Any], context: Context) -> None:
    volume_id = params["volume"]["id"]
    if any(attachment.volume_id == volume_id for attachment in server.volumes):
        raise Invalid(f"Invalid volume: volume '{volume_id}' is already attached to this server")
    device = params["volume"].get("device")
    if device and any(attachment.device == device for attachment in server.volumes):
        raise Conflict(f"The supplied device path ({device}) is in use.")


def _check_detach_volume(server: Server, params: dict[str, Any], context: Context) -> None:
    if all(attachment.volume_id != params["volume_id"] for attachment in server.volumes):
        raise NotFound(f"Instance {server.id} is not attached to volume {params['volume_id']}", code=404)


CHECKS: dict[str, Any] = {
    "resize": _check_resize,
    "unshelve": _check_unshelve,
    "detach-interface": _check_detach_interface,
    "attach-volume": _check_attach_volume,
    "detach-volume": _check_detach_volume,
}

__all__ = [
    "Context",
    "StepOutcome",
    "accept",
    "advance",
    "expire",
    "observe",
    "progress",
    "refuse",
    "resize_record",
    "resolve_stuck",
    "runs_though_stopped",
]
