"""Why a server is as it is, in plain words, with the evidence and the next thing to do. Pure.

Looks, in this order, at whether it was deleted, what is stuck, what failed and what is in progress. Every answer names
the commands that are legal now, so that nobody is sent to a door that is shut; what was refused last stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.errors import Forbidden, Rejected
from domain.machine import MACHINE
from domain.server import Server
from projections.rows import ActionRow, RejectionRow, StepRow

NEXT_AFTER = {
    "no_valid_host": "Free capacity or add a host, or choose a smaller flavor or another zone; then create it again.",
    "deadline": "Look whether the host answers (GET /v1/hosts). What was in progress was ended; it can be tried again.",
    "unsupported": "The host's driver cannot do this. Use a host with another driver.",
    "cancelled": "Another command took its place; look at that one.",
    "reset_state": "An administrator set this state. Set it back with reset-state when the server is well.",
}
WAITS_FOR = {"confirm-resize": "It waits for a decision: confirm-resize keeps its new size, revert-resize its old one."}
WAYS_OUT = ("rebuild", "reboot-hard", "stop", "start", "reset-state", "delete")


@dataclass(frozen=True)
class Evidence:
    """A table: why each host was not taken (`need` and `have` per filter), or its weight when it could have been."""

    chosen: str | None
    summary: str
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Reasons:
    """`kind`: deleted, stuck, failed, in_progress or well. `advice`: sentences; `commands`: legal now."""

    kind: str
    summary: str
    detail: str = ""
    action: ActionRow | None = None
    step: StepRow | None = None
    evidence: Evidence | None = None
    advice: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    refused: tuple[RejectionRow, ...] = field(default=())


def reasons(
    server: Server, actions: Sequence[ActionRow], rejections: Sequence[RejectionRow], legal: Sequence[str]
) -> Reasons:
    """`actions` newest first, with steps; `rejections` newest first; `legal` what the reader could do now."""
    failed = next((one for one in actions if one.result == "Error" and one.outcome != "cancelled"), None)
    refused = tuple(rejections[:5])
    operation = server.operation
    if server.deleted:
        return _deleted(server, actions, refused)
    if operation is not None and operation.stuck:
        action = next((one for one in actions if one.request_id == operation.request_id), None)
        return Reasons(
            "stuck",
            f"{_title(operation.command)} failed, and taking back its step {operation.step} failed too.",
            detail=operation.fault.message if operation.fault else "",
            action=action,
            step=_wrong_step(action),
            advice=("An operator decides: chronova stuck list, then retry, skip or abandon.",),
            commands=tuple(legal),
            refused=refused,
        )
    if server.fault is not None and (server.vm_state == "error" or (failed is not None and failed is actions[0])):
        return _failed(server, failed, legal, refused)
    if operation is not None:
        waits = {"agent": f"host {server.host}", "operator": "an operator"}.get(operation.awaits, "the control plane")
        return Reasons(
            "in_progress",
            f"{_title(operation.command)} is in progress: step {operation.step or 'starting'}, waiting for {waits}.",
            action=next((one for one in actions if one.request_id == operation.request_id), None),
            advice=(f"It ends by itself, at the latest at {operation.deadline:%H:%M:%S} UTC.",),
            commands=tuple(legal),
            refused=refused,
        )
    newest = actions[0] if actions else None
    seen = newest if newest is not None and newest.outcome == "observed" and newest.text else None
    return Reasons(
        "well",
        f"Nothing is in progress. Its host saw at {seen.start_time:%Y-%m-%d %H:%M:%S} UTC: {seen.text}"
        if seen
        else "Nothing is wrong.",
        action=seen,
        advice=tuple(WAITS_FOR[command] for command in WAITS_FOR if command in legal),
        commands=tuple(legal),
        refused=refused,
    )


def _deleted(server: Server, actions: Sequence[ActionRow], refused: tuple[RejectionRow, ...]) -> Reasons:
    """Who did it, when, and by which request."""
    by = next((one for one in actions if one.action == "delete" and one.result == "Success"), None)
    at = server.terminated_at or (by.finish_time if by is not None else None)
    when = f" at {at:%Y-%m-%d %H:%M:%S} UTC" if at is not None else ""
    who = f" by {by.user_name or by.user_id}, request {by.request_id}" if by is not None else ""
    return Reasons("deleted", f"It was deleted{when}{who}.", action=by, refused=refused)


def _failed(
    server: Server, failed: ActionRow | None, legal: Sequence[str], refused: tuple[RejectionRow, ...]
) -> Reasons:
    fault = server.fault
    assert fault is not None
    step = _wrong_step(failed)
    where = f" at step {step.step}" if step is not None else ""
    on = f" on {step.host}" if step is not None and step.host else ""
    what = _title(failed.command) if failed is not None else "The last command"
    code = (failed.fault.code if failed is not None and failed.fault else "") or fault.reason
    message = step.fault.message if step is not None and step.fault else fault.message
    advice = [NEXT_AFTER[code]] if code in NEXT_AFTER else []
    if code == "no_valid_host" and step is not None and step.step != "schedule":
        advice = ["Every host that could take it was tried, and failed so. Mend that, then create it again."]
    if failed is not None and any(one.undo for one in failed.steps):
        advice.append("What was done before the failure was taken back.")
    if ways := [command for command in WAYS_OUT if command in legal]:
        advice.append(f"Ways out: {', '.join(ways)}.")
    return Reasons(
        "failed",
        f"{what} failed{where}{on}: {message}",
        detail=fault.details,
        action=failed,
        step=step,
        evidence=evidence(failed),
        advice=tuple(advice),
        commands=tuple(legal),
        refused=refused,
    )


def _title(command: str) -> str:
    return MACHINE.rule(command).title if command in MACHINE.commands else command


def _wrong_step(action: ActionRow | None) -> StepRow | None:
    """The step that failed in the last attempt. That no further host was found after one failed is not the reason."""
    failed = [step for step in action.steps if step.result == "Error" and not step.undo] if action else []
    on_hosts = [step for step in failed if step.step != "schedule"]
    return next(reversed(on_hosts or failed), None)


def evidence(action: ActionRow | None) -> Evidence | None:
    """What the scheduler saw in the last attempt of an action to find a host; None if it did not look for one."""
    if action is None:
        return None
    for step in reversed(action.steps):
        placement = step.details.get("placement")
        if isinstance(placement, dict):
            dropped = tuple(
                {
                    "host": host,
                    "filter": one["filter"],
                    "need": one["need"],
                    "have": one["have"] or host,
                    "weight": None,
                }
                for one in placement.get("dropped", ())
                for host in (one["hosts"] if "hosts" in one else (one["host"],))  # one by one, as it once was
            )
            weighed = tuple(
                {"host": host, "filter": None, "need": None, "have": None, "weight": weight}
                for host, weight in placement.get("weights", {}).items()
            )
            chosen = placement.get("host")
            summary = f"Chosen: {chosen}" if chosen else _counted(dropped)
            return Evidence(chosen, summary, weighed + dropped)
    return None


def _counted(dropped: Sequence[dict[str, Any]]) -> str:
    if not dropped:
        return "No host is registered."
    counts: dict[str, int] = {}
    for one in dropped:
        counts[one["filter"]] = counts.get(one["filter"], 0) + 1
    told = ", ".join(f"{name}: {count}" for name, count in counts.items())
    return f"Every host was dropped ({told})."


def why_refused(command: str, refusal: Rejected | None, permitted: bool) -> dict[str, Any]:
    """Whether a command could be given now, and if not, why."""
    if not permitted:
        needed = MACHINE.rule(command).policy.replace("_", " ").lower()
        return {
            "command": command,
            "legal": False,
            "reason": "forbidden",
            "message": f"It needs {needed}.",
            "hint": Forbidden.usual_hint,
        }
    if refusal is None:
        return {"command": command, "legal": True, "reason": None, "message": "", "hint": ""}
    return {
        "command": command,
        "legal": False,
        "reason": refusal.reason,
        "message": refusal.message,
        "hint": refusal.advice,
    }
