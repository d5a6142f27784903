"""What comes by itself: the follower of a command when its time has come, and a look at the guest after a reset.

A time is in the log, in the server's `due`; so is the look, and any conductor that comes sees to it. A follower that is
refused (its host does not answer) comes again later.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import structlog

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.steps import Steps, give_back_taken
from domain import decide
from domain.errors import Rejected
from domain.server import LOOK, Due, Operation, Server, decode_event, decode_server
from domain.workflows import taken_by
from eventlog.envelope import Recorded

AGAIN_SECONDS = 60.0
LOOK_SECONDS = 5.0

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


def awaits_look(server: Server) -> bool:
    return server.due is not None and server.due.command == LOOK


async def see_to_reset(steps: Steps, server: Server) -> None:
    """All that a reset owes: it stays due until the look is in the history."""
    await give_back_after_reset(steps, server)
    await look_after_reset(steps.commands, server)


async def give_back_after_reset(steps: Steps, server: Server) -> None:
    """What the operations that resets ended had taken, such as an image to be made. May happen again."""
    for one in reversed(await steps.commands.log.read("server", server.id)):
        if not awaits_look(decode_server(one.commit.state)):
            return
        await _give_back(steps, server, one)


async def _give_back(steps: Steps, server: Server, recorded: Recorded) -> None:
    for event in recorded.commit.events:
        command, phase = event.type.split(".")[1:]
        if phase != "cancelled":
            continue
        body = decode_event(event.type, event.data).body
        taken = taken_by(command, body.details["params"], body.details["done"])
        if taken is None or _has_again(server, taken):
            continue
        now = datetime.now(UTC)
        operation = Operation(body.request_id, command, now, now, SERVICE.user_id, server.project_id)
        await give_back_taken(steps, server, operation, taken)


def _has_again(server: Server, taken: dict[str, Any]) -> bool:
    """Whether the server, which lost what was taken for it, got it once more since: then it is not given back again."""
    params, undos = taken["params"], taken["undos"]
    volumes = {id_ for one in server.volumes for id_ in (one.volume_id, one.replaced_by)}
    ports = {one.port_id for one in server.interfaces}
    return (
        ("release_volume" in undos and params["volume"]["id"] in volumes)
        or ("release_swap" in undos and params["new"]["id"] in volumes)
        or ("release_interface" in undos and params["port_id"] in ports)
        or ("delete_volumes" in undos and any(one.volume_id in volumes for one in server.block_devices))
    )


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
