"""What changed on a port, told to the server that has it: it shows its addresses and security groups too."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import msgspec

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from commands.networking import addresses_of
from domain.errors import Conflict, NotFound, Rejected
from domain.filters import Groups
from domain.resources import Port, SecurityGroup
from domain.server import NetworkRequest, Server

_NO_ADDRESS = {
    "IpAddressGenerationFailure": "No fixed IP addresses available for network: {network}",
    "IpAddressAlreadyAllocated": "Fixed IP address {address} is already in use.",
    "InvalidIpForNetwork": "Fixed IP {address} is not a valid ip address for network {network}.",
}
NO_ADDRESS = frozenset(_NO_ADDRESS)


async def tell_server(commands: Commands, read: Lookup, before: Port, port: Port, context: CommandContext) -> None:
    """The control plane itself tells: whoever may change the port need not be allowed to act on the server."""
    server = await commands.load_server(port.device_id) if port.device_id else None
    if server is None or server.deleted or all(one.port_id != port.id for one in server.interfaces):
        return
    by_us = CommandContext(SERVICE, context.request_id, causation_id=f"port:{port.id}:{port.version}")
    if port.fixed_ips != before.fixed_ips:
        await refresh_addresses(commands, server, port, by_us)
    if port.security_groups != before.security_groups:
        await _name_groups(commands, read, server, by_us)


async def refresh_addresses(
    commands: Commands, server: Server, port: Port, context: CommandContext, command: str = "refresh-network"
) -> None:
    fixed_ips = [msgspec.to_builtins(one) for one in await addresses_of(commands, port)]
    await commands.server(command, server.id, {"port_id": port.id, "fixed_ips": fixed_ips}, context)


async def group_renamed(commands: Commands, read: Lookup, group: SecurityGroup, context: CommandContext) -> None:
    """Servers know their groups by name: those that have this one learn its new name."""
    ports = await read.resources("port", project_id=group.project_id)
    having = (cast(Port, port) for port in ports if group.id in cast(Port, port).security_groups)
    by_us = CommandContext(SERVICE, context.request_id, causation_id=f"security_group:{group.id}:{group.version}")
    for server_id in {port.device_id for port in having if port.device_id}:
        server = await commands.load_server(server_id)
        if server is not None and not server.deleted:
            await _name_groups(commands, read, server, by_us)


def no_address(refused: Rejected, request: NetworkRequest) -> Rejected:
    """A refusal to give a server's port an address, as Nova says it; others as they are."""
    message = _NO_ADDRESS.get(refused.reason)
    if message is None:
        return refused
    text = message.format(network=request.network_id, address=request.fixed_ip)
    return Conflict(text, hint=refused.hint, reason=refused.reason)


async def group_names(commands: Commands, read: Lookup, server: Server) -> tuple[str, ...]:
    """A server's groups are those of all its ports."""
    found = await read.resources("security_group", project_id=server.project_id)
    names = {group.id: group.name for group in found}
    groups = Groups(cast(SecurityGroup, group) for group in found)
    wanted: dict[str, None] = {}
    for interface in server.interfaces:
        port = await commands.load("port", interface.port_id)
        if isinstance(port, Port):
            wanted |= dict.fromkeys(names[id] for id in groups.of(port) if id in names)
    return tuple(wanted)


async def _name_groups(commands: Commands, read: Lookup, server: Server, context: CommandContext) -> None:
    wanted = await group_names(commands, read, server)
    for name in set(server.security_groups) - set(wanted):
        with suppress(NotFound):  # somebody else took it off just now
            await commands.server("remove-security-group", server.id, {"group": name}, context)
    for name in wanted:
        if name not in server.security_groups:
            await commands.server("add-security-group", server.id, {"group": name}, context)
