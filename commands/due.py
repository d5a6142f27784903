"""What comes by itself when its time has come, such as the end of a soft delete: a command that follows another.

The time is in the log, in the server's `due`, so it survives every restart. A follower that is refused (its host does
not answer) comes again later. What a reset-state owes is due in the same way (`commands.resets`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

import structlog

from commands import resets
from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from domain import decide
from domain.errors import Rejected
from domain.server import LOOK, Due, Server

AGAIN_SECONDS = 60.0

log_ = structlog.get_logger(__name__)


def due_of(server: Server, reclaim_seconds: float) -> Due | None:
    """What is due for a server in which nothing is in progress; a past time comes again when it came in vain."""
    owed = resets.due_of(server)
    due = _own_due_of(server, reclaim_seconds)
    return min((one for one in (owed, due) if one is not None), key=lambda one: one.at, default=None)


def _own_due_of(server: Server, reclaim_seconds: float) -> Due | None:
    due = server.due
    if due is None and server.vm_state == "soft-delete" and server.soft_deleted_at is not None and reclaim_seconds > 0:
        # Deleted by a version that did not write the time down.
        due = Due("force-delete", server.soft_deleted_at + timedelta(seconds=reclaim_seconds))
    if due is not None and due.command == LOOK:
        return due  # at once, also after a command that came in between
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
