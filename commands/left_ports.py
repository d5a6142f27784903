"""Ports that a step took for a server which does not hold them: of a step that failed half-way, or came too late.

A build's ports have ids that derive from the server, so whoever takes the build back knows them without having been
told which of them there are.
"""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_OID, uuid5

from commands.context import CommandContext
from commands.handler import Commands
from commands.networking import release_port
from domain.decide.running import MAX_ATTEMPTS
from domain.errors import NotFound
from domain.resources import Port
from domain.server import Server


def build_port_id(server: Server, attempt: int, index: int) -> str:
    """The id of the port that a build takes for its nth network; each try takes its own."""
    return str(uuid5(NAMESPACE_OID, f"{server.id}/ports/{attempt}/{index}"))


async def give_back(commands: Commands, asked: Server, now: Server, context: CommandContext) -> None:
    """Give back what was taken for the server as it `asked`, and what it does not have `now`."""
    held = {interface.port_id for interface in now.interfaces}
    made, bound = _asked_for(asked)
    for port_id in made:
        port = None if port_id in held else await commands.load("port", port_id)
        if isinstance(port, Port) and port.device_id == asked.id:
            await release_port(commands, port_id, context)
    for port_id in bound:
        if port_id not in held:
            await unbind(commands, asked, port_id, context)


async def unbind(commands: Commands, server: Server, port_id: str, context: CommandContext) -> None:
    """Let go of a port that is somebody's own."""

    def check(state: Any) -> dict[str, Any] | None:
        if state.device_id != server.id:
            return None
        return {"device_id": "", "device_owner": "", "binding_host": "", "status": "DOWN"}

    try:
        await commands.update("port", port_id, {}, context, verb="unbind", check=check)
    except NotFound:
        return


def _asked_for(server: Server) -> tuple[list[str], list[str]]:
    """The ports that were to be made, and those that were to be bound."""
    params = server.operation.params if server.operation is not None else {}
    port_id = params.get("port_id")
    if isinstance(port_id, str):
        return ([port_id], []) if params.get("create") else ([], [port_id])
    if server.launched_at is None:
        requests = server.networks_requested
        count = 1 if requests is None else len(requests)
        made = [build_port_id(server, attempt, n) for attempt in range(1, MAX_ATTEMPTS + 1) for n in range(count)]
        return made, [one.port_id for one in requests or () if one.port_id is not None]
    return [], []


__all__ = ["build_port_id", "give_back", "unbind"]
