"""Whether the events of a commit could have been decided for the server as it was: what an audit asks beyond the pair.

`MACHINE.legal` looks at vm_state and task_state before and after. This looks at what else the log holds: that an
acceptance passes the guard for who gave it (lock, launched, host, what is in progress), that steps and outcomes belong
to the operation that is open, and that no event changes a field that is not its to change.

Not looked at, for the log does not hold it: whether the host answered at that moment, and the parameters of a command
that is done at once. Who may give a command (its policy) is not the machine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import UNSET

from domain.decide import INSTANT, Context, refuse
from domain.decide.accepting import SUPERSEDING
from domain.errors import Rejected
from domain.event_fields import may_change
from domain.machine import OBSERVED
from domain.server import Operation, Server, ServerEvent, changed
from domain.workflows import WORKFLOWS

ENDS = frozenset({"succeeded", "failed", "reverted", "cancelled"})


def breach(
    states: Sequence[Server], events: Sequence[ServerEvent], index: int, *, is_admin: bool, at: datetime
) -> str | None:
    """What is wrong with `events[index]`, or None. `states[i]` is the server before `events[i]` of the commit."""
    server, event = states[index], events[index]
    is_birth = event.type == "server.create.accepted"
    if (server.version == 0) != is_birth:
        return "a server begins with server.create.accepted, once"
    if event.type != OBSERVED:
        if event.command not in WORKFLOWS and event.command not in INSTANT:
            return f"no command {event.command} is carried out"
        wrong = _acceptance(states, events, index, is_admin, at) if event.phase == "accepted" else None
        wrong = wrong or (_at_once(events, index) if event.command in INSTANT else _operation(server, event))
        if event.phase == "cancelled":
            wrong = wrong or _superseded(events, index)
        if wrong is not None:
            return wrong
    return _fields(server, event)


def _acceptance(
    states: Sequence[Server], events: Sequence[ServerEvent], index: int, is_admin: bool, at: datetime
) -> str | None:
    """The guard, asked of the server as the command found it: before it ended what was in progress."""
    event = events[index]
    if event.command == "create":
        return None
    found = states[index - 1] if index and events[index - 1].phase == "cancelled" else states[index]
    context = Context(at, event.body.request_id, "", None, is_admin=is_admin)
    try:
        refuse(found, event.command, context)
    except Rejected as rejected:
        return f"the command is refused there: {rejected.message}"
    return None


def _at_once(events: Sequence[ServerEvent], index: int) -> str | None:
    """Such a command is two events of one commit: accepted, succeeded."""
    first = index if events[index].phase == "accepted" else index - 1
    pair = events[max(first, 0) : first + 2]
    command, request_id = events[index].command, events[index].body.request_id
    if [(one.phase, one.command, one.body.request_id) for one in pair] == [
        ("accepted", command, request_id),
        ("succeeded", command, request_id),
    ]:
        return None
    return f"{command} is accepted and succeeds in one commit"


def _operation(server: Server, event: ServerEvent) -> str | None:
    """An acceptance opens its own operation; steps and outcomes are of the open one; an outcome closes it."""
    now = event.body.patch.operation
    if event.phase == "accepted":
        if server.operation is not None:
            return f"{server.operation.command} (request {server.operation.request_id}) is still in progress"
        if not isinstance(now, Operation) or not _is_of(now, event):
            return "it does not begin its own operation"
        return None
    if server.operation is None:
        return f"no {event.command} is in progress"
    if not _is_of(server.operation, event):
        return f"{server.operation.command} (request {server.operation.request_id}) is in progress, not this one"
    if event.phase in ENDS:
        return None if now is None else "it leaves its operation open"
    if now is UNSET or (isinstance(now, Operation) and _asked(now) == _asked(server.operation)):
        return None
    return "it puts another operation in the place of its own"


def _is_of(operation: Operation, event: ServerEvent) -> bool:
    return (operation.command, operation.request_id) == (event.command, event.body.request_id)


def _asked(operation: Operation) -> tuple[object, ...]:
    """What of an operation never changes while it lasts."""
    return (
        operation.command,
        operation.request_id,
        operation.user_id,
        operation.project_id,
        operation.started_at,
    )


def _superseded(events: Sequence[ServerEvent], index: int) -> str | None:
    after = events[index + 1] if index + 1 < len(events) else None
    if after is not None and after.phase == "accepted" and after.command in SUPERSEDING:
        return None
    return "nothing follows that takes its place"


def _fields(server: Server, event: ServerEvent) -> str | None:
    patch = changed(event.body.patch)
    workflow = event.command in WORKFLOWS
    beyond = sorted(patch.keys() - may_change(event.command, event.phase, workflow=workflow))
    if beyond:
        return f"it changes {', '.join(beyond)}"
    if patch.get("generation", server.generation) < server.generation:
        return "it takes the generation of its orders back"
    return None
