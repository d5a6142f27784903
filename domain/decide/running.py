"""How an accepted command goes on: step after step, or back again, until it has settled."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain.decide.context import Decision, StepOutcome
from domain.errors import NotFound
from domain.machine import MACHINE, UNCHANGED
from domain.orders import Fault
from domain.server import Due, Operation, Server, ServerEvent, ServerFault
from domain.workflow_finishes import on_the_shelf
from domain.workflows import FOLLOWERS, KEEP, UNDO, WORKFLOWS, Step, Workflow, taken_by

MAX_ATTEMPTS = 3  # hosts tried for one build, as Nova's scheduler.max_attempts
# What another host would not do better: a deadline's end is told by an agent too, in its words.
HOPELESS = frozenset({"unsupported", "volume_store_full", "deadline", "timeout", "expired"})
UNDO_SECONDS = 300  # how long taking back a failed workflow may last


def go_on(decision: Decision, workflow: Workflow, after: str | None) -> None:
    step = workflow.next_step(decision.server, after)
    if step is None:
        _succeed(decision, workflow)
    else:
        start_step(decision, step)


def start_step(decision: Decision, step: Step, task_state: str | None = KEEP) -> None:
    server, operation = decision.server, decision.server.operation
    assert operation is not None
    patch: dict[str, Any] = {}
    shown = step.task_state if task_state == KEEP else task_state
    if shown != KEEP:
        patch["task_state"] = shown
    if step.vm_state is not None:
        patch["vm_state"] = step.vm_state
    if server.progress:
        patch["progress"] = 0
    if step.order is not None:
        patch["generation"] = server.generation + 1
        if step.order in ("create_disk", "spawn"):
            patch["guest_exists"] = True
    patch["operation"] = msgspec.structs.replace(
        operation,
        step=step.name,
        step_started_at=decision.now,
        awaits="conductor" if step.order is None else "agent",
    )
    decision.add(
        operation.command,
        "step_started",
        operation.request_id,
        patch,
        step=step.name,
        event=step.event,
        host=server.host,
    )


def _succeed(decision: Decision, workflow: Workflow) -> None:
    server, operation = decision.server, decision.server.operation
    assert operation is not None
    patch = {"task_state": None, "operation": None, "fault": None, "progress": _done_progress(operation)}
    patch |= workflow.finish(server, operation, decision.now, {})
    patch |= _due(server, operation, str(patch.get("vm_state", server.vm_state)), decision.now)
    decision.add(operation.command, "succeeded", operation.request_id, patch, host=server.host)


def _due(server: Server, operation: Operation, vm_state: str, now: datetime) -> dict[str, Any]:
    """What comes by itself from now on: what this command asks for; nothing once the state it waited in is over."""
    seconds = operation.params.get("due_seconds")
    if seconds:
        return {"due": Due(FOLLOWERS[operation.command], now + timedelta(seconds=seconds))}
    return {"due": None} if server.due is not None and vm_state != operation.vm_state_before else {}


def _done_progress(operation: Operation) -> int:
    return 100 if operation.command in ("rebuild", "resize") else 0


def advance(server: Server, outcome: StepOutcome, now: datetime) -> list[ServerEvent]:
    """The events that follow when a step has ended. A step that is not the one in progress is stale: no events."""
    operation = server.operation
    if operation is None or operation.step != outcome.step:
        return []
    decision = Decision(server, now)
    workflow = WORKFLOWS[operation.command]
    patch = dict(outcome.patch)
    if outcome.power_state is not None:
        patch["power_state"] = outcome.power_state
    if operation.undoing:
        _undo_step_ended(decision, outcome, patch)
        return decision.events
    step = workflow.step(operation.step)
    if outcome.succeeded:
        tried = (outcome.host,) if step.control == "schedule" and outcome.host else ()
        patch["operation"] = msgspec.structs.replace(
            operation,
            done=(*operation.done, operation.step),
            hosts_tried=(*operation.hosts_tried, *tried),
            params=operation.params | ({"result": outcome.details} if step.keeps_result else {}),
        )
    decision.add(
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
        go_on(decision, workflow, after=step.name)
    else:
        unwind(decision, step, outcome.fault or Fault("failed", "the step failed"), outcome.unchanged)
    return decision.events


def unwind(decision: Decision, step: Step, fault: Fault, unchanged: bool) -> None:
    """Take back what was done, the failed step first, then settle."""
    operation = decision.server.operation
    assert operation is not None
    workflow = WORKFLOWS[operation.command]
    done = [workflow.step(name) for name in reversed(operation.done)]
    # What a request took in the control plane (a volume, an image to be) is given back though no agent did a thing.
    taken = step.order is not None and step.undo is not None and UNDO[step.undo].control is not None
    first = [step] if taken or not unchanged else []
    if step.vm_state is not None:  # a part of its own began with it: what was done before is whole, and stays
        done = []
    plan: list[str] = []
    for name in (candidate.undo for candidate in (*first, *done)):
        if name is not None and name not in plan:
            plan.append(name)
    params = operation.params | {"undo_plan": plan, "unchanged": unchanged and not operation.done}
    deadline = max(operation.deadline, decision.now + timedelta(seconds=UNDO_SECONDS)) if plan else operation.deadline
    undoing = msgspec.structs.replace(operation, undoing=True, fault=fault, params=params, deadline=deadline)
    next_undo(decision, undoing)


def next_undo(decision: Decision, operation: Operation) -> None:
    server = decision.server
    plan = [name for name in operation.params["undo_plan"] if name not in operation.undone]
    if plan and UNDO[plan[0]].order is not None and server.host is None:
        next_undo(decision, msgspec.structs.replace(operation, undone=(*operation.undone, plan[0])))
        return
    if not plan:
        settle(decision, operation)
        return
    undo = UNDO[plan[0]]
    patch: dict[str, Any] = {
        "operation": msgspec.structs.replace(
            operation,
            step=undo.name,
            step_started_at=decision.now,
            awaits="conductor" if undo.order is None else "agent",
            stuck=False,
        )
    }
    if undo.order is not None:
        patch["generation"] = server.generation + 1
    if server.progress:
        patch["progress"] = 0
    decision.add(
        operation.command, "step_started", operation.request_id, patch, step=undo.name, host=server.host, undo=True
    )


def _undo_step_ended(decision: Decision, outcome: StepOutcome, patch: dict[str, Any]) -> None:
    operation = decision.server.operation
    assert operation is not None
    if outcome.succeeded:
        if operation.step == "destroy":
            patch["guest_exists"] = False
        operation = msgspec.structs.replace(operation, undone=(*operation.undone, operation.step))
    else:
        operation = msgspec.structs.replace(operation, stuck=True, awaits="operator")
    patch["operation"] = operation
    decision.add(
        operation.command,
        "step_finished",
        operation.request_id,
        patch,
        step=outcome.step,
        host=outcome.host or decision.server.host,
        fault=outcome.fault,
        details=outcome.details,
        sub_steps=outcome.sub_steps,
        undo=True,
    )
    if outcome.succeeded:
        next_undo(decision, operation)


def settle(decision: Decision, operation: Operation) -> None:
    """After the undo: try the next host, or end the action as failed in the state its rule names."""
    server, fault = decision.server, operation.fault or Fault("failed", "the operation failed")
    retry = (
        operation.command in ("create", "unshelve")
        and "schedule" in operation.done
        and operation.attempt < MAX_ATTEMPTS
        and fault.code not in HOPELESS
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
        decision.add(
            operation.command, "step_finished", operation.request_id, {"operation": again}, step="undo", undo=True
        )
        workflow = WORKFLOWS[operation.command]
        start_step(decision, workflow.step("schedule"), task_state=MACHINE.rule(operation.command).accept_task_state)
        return
    unchanged = bool(operation.params.get("unchanged")) or fault.code == "unsupported"
    vm_state = failed_vm_state(server, operation, unchanged)
    patch: dict[str, Any] = {
        "vm_state": vm_state,
        "task_state": None,
        "operation": None,
        "progress": 0,
        "fault": ServerFault(
            code=500, message=fault.message[:255], created=decision.now, details=fault.details, reason=fault.code
        ),
    }
    if operation.command == "shelve" and vm_state == "shelved":
        patch |= on_the_shelf(server, operation, decision.now)
    if operation.command == "settle" and server.fault is not None:
        patch["fault"] = server.fault  # the reset's word stands; that its settling failed is told by the event
    if server.due is not None and vm_state != operation.vm_state_before:
        patch["due"] = None
    decision.add(operation.command, "failed", operation.request_id, patch, fault=fault, host=server.host)


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
    if operation.command == "resize" and may_stay and "resize_revert" in operation.undone:
        return before  # taken back whole, as Nova does when it rolls a resize back
    if operation.command == "unshelve" and before == "shelved_offloaded" and not _lost_its_image(server, operation):
        return before  # what was built is gone again, its image is there: it can be tried anew
    if operation.command == "shelve" and before == "shelved":
        return before  # it is on the shelf; what failed is letting go of the host
    if operation.command == "shelve" and server.power_state == "shutdown" and "stopped" in allowed:
        return "stopped"
    if unchanged and may_stay:
        return before
    if "error" in allowed:
        return "error"
    return before if may_stay else min(allowed)


def _lost_its_image(server: Server, operation: Operation) -> bool:
    """Whether an unshelve ended because there is nothing to come back from."""
    fault = operation.fault
    found = server.volume_backed or "find_image" in operation.done
    return not found and fault is not None and fault.code == NotFound.reason


def event_of(operation: Operation) -> str | None:
    step = WORKFLOWS[operation.command].step(operation.step)
    return step.event or step.failed_event


def progress(server: Server, step: str, percent: int, what: str, now: datetime) -> list[ServerEvent]:
    """A long step tells how far it is, and with what. Only growth of ten points or more is worth an event."""
    operation = server.operation
    if operation is None or operation.step != step or percent < server.progress + 10 or percent >= 100:
        return []
    decision = Decision(server, now)
    decision.add(
        operation.command,
        "step_started",
        operation.request_id,
        {"progress": percent},
        step=step,
        event=event_of(operation) if not operation.undoing else None,
        host=server.host,
        message=f"{what}, {percent} %" if what else f"{percent} %",
        undo=operation.undoing,
        details={"progress": percent},
    )
    return decision.events


def taken_over(server: Server, now: datetime) -> list[ServerEvent]:
    """Begin the conductor's step anew, under another conductor: what the one before decides about it comes too late."""
    operation = server.operation
    if operation is None or operation.awaits != "conductor":
        return []
    decision = Decision(server, now)
    decision.add(
        operation.command,
        "step_started",
        operation.request_id,
        {"operation": msgspec.structs.replace(operation, step_started_at=now)},
        step=operation.step,
        event=event_of(operation) if not operation.undoing else None,
        host=server.host,
        message="taken over by another conductor",
        undo=operation.undoing,
    )
    return decision.events


def _not_taken(server: Server, operation: Operation) -> dict[str, Any]:
    """What a server listed as its own from the acceptance on, and does not get now."""
    if operation.command == "attach-volume" and "record_volume" not in operation.done:
        volume_id = operation.params["volume"]["id"]
        return {"volumes": tuple(one for one in server.volumes if one.volume_id != volume_id)}
    if operation.command == "swap-volume" and "record_swap" not in operation.done:
        return {"volumes": tuple(msgspec.structs.replace(one, replaced_by=None) for one in server.volumes)}
    return {}


def _given_back(server: Server, operation: Operation) -> dict[str, Any]:
    """What steps got for the server, and what is given back when no workflow comes that would do it."""
    taken = taken_by(operation.command, operation.params, operation.done)
    patch: dict[str, Any] = {}
    if taken is None:
        return patch
    if "release_interface" in taken["undos"]:
        port_id = taken["params"]["port_id"]
        patch["interfaces"] = tuple(one for one in server.interfaces if one.port_id != port_id)
    if "delete_volumes" in taken["undos"]:
        patch["volumes"] = ()
    return patch


def cancel_open(decision: Decision, why: str, by_request: str, *, for_good: bool = False) -> None:
    """End what is in progress. `for_good`: no workflow comes after it that would give back what it got, or keep it."""
    operation = decision.server.operation
    if operation is None:
        return
    lost = _not_taken(decision.server, operation)
    if for_good:
        lost |= _given_back(decision.server, operation)
    decision.add(
        operation.command,
        "cancelled",
        operation.request_id,
        {"task_state": None, "operation": None, "progress": 0} | lost,
        step=operation.step,
        message=f"{why} (request {by_request})",
        fault=Fault("cancelled", f"{operation.command} was {why}"),
        details={"params": public(operation.params), "done": [*operation.done]},
    )


_SECRETS = ("password", "admin_password", "user_data", "personality")


def public(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters without what must not be shown."""
    return {key: "(redacted)" if key in _SECRETS else value for key, value in params.items()}
