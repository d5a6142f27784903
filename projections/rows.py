"""What the read model hands out, beside servers and resources, which come as the domain's own types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha224
from typing import Any

import msgspec

from domain.orders import Fault, SubStep
from domain.resources import Host
from domain.server import Server
from projections.facts import position_of
from projections.times import from_text

_decode_fault = msgspec.json.Decoder(Fault).decode
_decode_sub_steps = msgspec.json.Decoder(tuple[SubStep, ...]).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_roles = msgspec.json.Decoder(tuple[str, ...]).decode


class ServerThen(msgspec.Struct, frozen=True, kw_only=True):
    """The newest commit of a server at a moment. `server`: as it is after that, null if only the log has it."""

    id: str
    position: int
    server: Server | None


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an action. `attempt` counts the times this step was begun in the action. `result` None: running."""

    number: int
    step: str
    undo: bool
    attempt: int
    event: str | None
    start_time: datetime
    finish_time: datetime | None
    result: str | None
    host: str | None
    message: str | None
    progress: int | None  # percent
    fault: Fault | None
    details: dict[str, Any]
    sub_steps: tuple[SubStep, ...]
    position: int  # of the commit that began it
    position_last: int


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event of an action as Nova shows it: consecutive steps of one name are one event."""

    event: str
    start_time: datetime
    finish_time: datetime | None
    result: str | None
    host: str | None
    host_id: str
    details: str | None
    traceback: str | None


class ActionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted command, or one thing that the hypervisor did on its own, and how it truly ended.

    `result`: Success, Error, or None while it runs. `outcome`: succeeded, failed, reverted, cancelled, observed, or
    None. `internal`: Nova's os-instance-actions has no such action. `text`: what the events said about it.
    `events` (newest first) and `steps` (in order) are filled where a method says so.
    """

    id: int
    server_id: str
    action: str
    command: str
    request_id: str
    internal: bool
    user_id: str
    user_name: str
    project_id: str | None
    roles: tuple[str, ...]
    remote: str
    start_time: datetime
    finish_time: datetime | None
    updated_at: datetime
    result: str | None
    outcome: str | None
    host: str | None
    text: str | None
    fault: Fault | None
    details: dict[str, Any]
    position_first: int
    position_last: int
    steps: tuple[StepRow, ...] = ()
    events: tuple[EventRow, ...] = ()

    @property
    def message(self) -> str | None:
        """Nova's: the word Error, or nothing."""
        return "Error" if self.result == "Error" else None


class LogEventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the log, without its data (read the commit at `position` for that).

    `project_id` owns what changed; `user_id` changed it. `failed`: the event carries a fault.
    """

    id: int
    position: int
    index: int
    kind: str
    aggregate_id: str
    version: int
    project_id: str | None
    type: str
    command: str
    phase: str
    step: str | None
    request_id: str
    correlation_id: str
    causation_id: str
    user_id: str
    user_name: str
    occurred_at: datetime
    failed: bool


class RejectionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was refused. `actor`: who asked, as it stood in the request; `params`: redacted."""

    id: int
    at: datetime
    kind: str
    aggregate_id: str
    command: str
    user_id: str
    user_name: str
    project_id: str | None
    actor: dict[str, Any]
    request_id: str
    code: int
    reason: str
    message: str
    hint: str
    params: dict[str, Any]


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """A host and what is placed on it (MiB, GiB; a server that is resized counts twice, see `fold_servers`)."""

    host: Host
    vcpus_used: int = 0
    memory_mb_used: int = 0
    disk_gb_used: int = 0
    servers: int = 0


class PlacementRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one server takes from one host."""

    server_id: str
    role: str
    host: str
    vcpus: int
    memory_mb: int
    disk_gb: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the servers of a project that are not deleted add up to."""

    instances: int = 0
    cores: int = 0
    ram: int = 0


def action_row(row: Sequence[Any], steps: tuple[StepRow, ...] = (), events: tuple[EventRow, ...] = ()) -> ActionRow:
    (
        id, server_id, request_id, command, action, internal, user_id, user_name, project_id, roles, remote, start_time,
        finish_time, updated_at, result, outcome, host, text, fault, details, position_last,
    ) = row  # fmt: skip
    return ActionRow(
        id=id,
        server_id=server_id,
        action=action,
        command=command,
        request_id=request_id,
        internal=bool(internal),
        user_id=user_id,
        user_name=user_name,
        project_id=project_id,
        roles=_decode_roles(roles),
        remote=remote,
        start_time=from_text(start_time),
        finish_time=from_text(finish_time),
        updated_at=from_text(updated_at),
        result=result,
        outcome=outcome,
        host=host,
        text=text,
        fault=_decode_fault(fault) if fault else None,
        details=_decode_object(details) if details else {},
        position_first=position_of(id),
        position_last=position_last,
        steps=steps,
        events=events,
    )


def step_row(row: Sequence[Any]) -> StepRow:
    (
        _, number, step, undo, attempt, event, start_time, finish_time, result, host, message, progress, fault, details,
        sub_steps, position_first, position_last,
    ) = row  # fmt: skip
    return StepRow(
        number=number,
        step=step,
        undo=bool(undo),
        attempt=attempt,
        event=event,
        start_time=from_text(start_time),
        finish_time=from_text(finish_time),
        result=result,
        host=host,
        message=message,
        progress=progress,
        fault=_decode_fault(fault) if fault else None,
        details=_decode_object(details) if details else {},
        sub_steps=_decode_sub_steps(sub_steps) if sub_steps else (),
        position=position_first,
        position_last=position_last,
    )


def log_event_row(row: Sequence[Any]) -> LogEventRow:
    (
        id, kind, aggregate_id, version, project_id, type, command, phase, step, request_id, correlation_id,
        causation_id, user_id, user_name, occurred_at, failed,
    ) = row  # fmt: skip
    return LogEventRow(
        id=id,
        position=position_of(id),
        index=id - position_of(id) * 1024,
        kind=kind,
        aggregate_id=aggregate_id,
        version=version,
        project_id=project_id,
        type=type,
        command=command,
        phase=phase,
        step=step,
        request_id=request_id,
        correlation_id=correlation_id,
        causation_id=causation_id,
        user_id=user_id,
        user_name=user_name,
        occurred_at=from_text(occurred_at),
        failed=bool(failed),
    )


def rejection_row(row: Sequence[Any]) -> RejectionRow:
    (
        id, at, kind, aggregate_id, command, user_id, user_name, project_id, actor, request_id, code, reason, message,
        hint, params,
    ) = row  # fmt: skip
    return RejectionRow(
        id=id,
        at=from_text(at),
        kind=kind,
        aggregate_id=aggregate_id,
        command=command,
        user_id=user_id,
        user_name=user_name,
        project_id=project_id,
        actor=_decode_object(actor),
        request_id=request_id,
        code=code,
        reason=reason,
        message=message,
        hint=hint,
        params=_decode_object(params),
    )


def nova_events(steps: Sequence[StepRow], project_id: str) -> tuple[EventRow, ...]:
    """The events that Nova would show for these steps, newest first.

    A step without an event's name is ours alone and is passed over; taking something back ends a run, so that a second
    attempt is a second event. What was only ordered so far is no event yet: as in Nova, one appears when whoever does
    it has begun, which here is known by its first sign (progress, or its end).
    """
    runs: list[list[StepRow]] = []
    joinable = False
    for step in steps:
        if step.undo:
            joinable = False
        elif step.event is not None:
            if joinable and runs[-1][-1].event == step.event:
                runs[-1].append(step)
            else:
                runs.append([step])
            joinable = True
    return tuple(_nova_event(run, project_id) for run in reversed(runs) if any(map(_has_begun, run)))


def _has_begun(step: StepRow) -> bool:
    return step.finish_time is not None or step.progress is not None


def _nova_event(run: list[StepRow], project_id: str) -> EventRow:
    first, last = run[0], run[-1]
    wrong = next((step for step in run if step.result == "Error"), None)
    fault = wrong.fault if wrong else None
    host = last.host or first.host
    assert first.event is not None
    return EventRow(
        event=first.event,
        start_time=first.start_time,
        finish_time=last.finish_time,
        result="Error" if wrong else last.result,
        host=host,
        host_id=host_id(project_id, host),
        details=fault.message if fault else None,
        traceback=(fault.details or fault.message) if fault else None,
    )


def host_id(project_id: str, host: str | None) -> str:
    """Nova's name of a host for those who may not know it: the same for all servers of a project on that host."""
    return sha224((project_id + host).encode()).hexdigest() if host else ""
