"""What a reset-state owes: a look at the guest, and an end to what the operation that it ended had begun.

Both are due in the log (`LOOK` in the server's `due`, and its `owed`) until the history says that they are done; any
conductor that comes sees to it. Settling is a command of its own (`settle`): it waits for a host that does not answer
and for what else goes on with the server, and comes again when it fails, after a pause that doubles.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

from commands.context import SERVICE
from commands.handler import Commands
from domain import decide
from domain.errors import Rejected
from domain.server import LOOK, Due, Server, ServerEvent

SETTLE = "settle"
LOOK_SECONDS = 5.0
PAUSE_SECONDS = 30.0
MOST_DOUBLINGS = 6


def awaits_look(server: Server) -> bool:
    return server.due is not None and server.due.command == LOOK


def due_of(server: Server) -> Due | None:
    """When what is owed is to be settled. The look comes first: it does not wait for a host."""
    if not server.owed or awaits_look(server) or server.updated_at is None:
        return None
    tries = max(owed.tries for owed in server.owed)
    pause = PAUSE_SECONDS * 2 ** min(tries - 1, MOST_DOUBLINGS) if tries else 0.0
    return Due(SETTLE, server.updated_at + timedelta(seconds=pause))


async def look(commands: Commands, server: Server) -> None:
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


async def settle(commands: Commands, server: Server) -> bool:
    """Begin to settle what is owed. False: its host does not answer, so it has to come again."""
    if server.host is not None and server.guest_exists and not commands.hosts.answers(server.host):
        return False
    request_id = f"req-{uuid5(NAMESPACE_OID, f'{SETTLE}/{server.id}/{server.version}')}"
    context = decide.Context(
        now=datetime.now(UTC), request_id=request_id, user_id=SERVICE.user_id, project_id=None, is_admin=True
    )

    def choose(now: Server) -> list[ServerEvent]:
        if now.deleted or now.operation is not None or not now.owed:
            return []
        return decide.accept(now, SETTLE, {}, context)

    await commands.internal(server.id, choose, causation_id=f"server:{server.id}:{server.version}")
    return True
