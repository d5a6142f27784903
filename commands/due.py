"""What comes by itself: the follower of a command when its time has come, and a look at the guest after a reset.

A time is in the log, in the server's `due`. A follower that is refused (its host does not answer) comes again later.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

import structlog

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.steps import Steps, give_back_taken
from domain import decide
from domain.errors import Rejected
from domain.server import Due, Operation, Server, decode_event
from domain.workflows import taken_by
from eventlog.envelope import Recorded

AGAIN_SECONDS = 60.0
LOOK_SECONDS = 5.0
RESET = "server.reset-state.succeeded"

log_ = structlog.get_logger(__name__)


def due_of(server: Server, reclaim_seconds: float) -> Due | None:
    """What is due for a server in which nothing is in progress; a past time comes again when it came in vain."""
    due = server.due
    if due is None and server.vm_state == "soft-delete" and server.soft_deleted_at is not None and reclaim_seconds > 0:
        # Deleted by a version that did not write the time down.
        due = Due("force-delete", server.soft_deleted_at + timedelta(seconds=reclaim_seconds))
    if due is not None and server.updated_at is not None and server.updated_at > due.at:
        return Due(due.command, server.updated_at + timedelta(seconds=AGAIN_SECONDS))
    return due


async def carry_out(commands: Commands, server: Server, due: Due) -> bool:
    """Do what is due now. False: it was refused and has to come again."""
    request_id = f"req-{uuid5(NAMESPACE_OID, f'{due.command}/{server.id}/{server.version}')}"
    if due.command == "power-sync":
        await commands.internal(
            server.id, lambda now: decide.synced(now, request_id, datetime.now(UTC)), causation_id="due"
        )
        return True
    try:
        await commands.server(due.command, server.id, {}, CommandContext(SERVICE, request_id, causation_id="due"))
    except Rejected as rejected:
        log_.warning("what was due is refused", server_id=server.id, command=due.command, reason=rejected.reason)
        return False
    return True


def was_reset(recorded: Recorded) -> bool:
    return any(event.type == RESET for event in recorded.commit.events)


async def give_back_after_reset(steps: Steps, server: Server, recorded: Recorded) -> None:
    """What the operation that a reset ended had taken, such as the image that it was to make."""
    for event in recorded.commit.events:
        command, phase = event.type.split(".")[1:]
        if phase != "cancelled":
            continue
        body = decode_event(event.type, event.data).body
        taken = taken_by(command, body.details["params"], body.details["done"])
        if taken is None:
            continue
        now = datetime.now(UTC)
        operation = Operation(body.request_id, command, now, now, SERVICE.user_id, server.project_id)
        await give_back_taken(steps, server, operation, taken)


async def look_after_reset(commands: Commands, server: Server) -> None:
    """Ask the hypervisor what the guest does, and write it into the history, whatever the answer is."""
    power_state: str | None
    try:
        seen = await commands.ask_agent(server.id, "reconcile", {}, timeout=LOOK_SECONDS)
    except Rejected:
        power_state = None
    else:
        found = {guest["server_id"]: guest["power_state"] for guest in seen["guests"]}
        power_state = found.get(server.id, "nostate")
    request_id = f"req-{uuid5(NAMESPACE_OID, f'look/{server.id}/{server.version}')}"
    await commands.internal(
        server.id,
        lambda now: decide.looked_at(now, power_state, request_id, datetime.now(UTC)),
        causation_id=f"server:{server.id}:{server.version}",
    )
