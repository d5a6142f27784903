"""Actions on how a server is reached: password, consoles, security groups, addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.compute import consoles
from api.compute.action import Action, Run
from api.compute.call import Call, Reply, empty, reply
from api.compute.carry_out import carry_out, must_be_legal
from api.compute.ending import ended
from api.compute.lookups import named, server_of
from commands.networking import change_addresses
from commands.security_groups import set_on_ports
from commands.server_ports import refresh_addresses
from domain.errors import Conflict, Invalid, NotFound, NotImplementedHere
from domain.resources import Port, SecurityGroup
from domain.server import Server

PASSWORD_SECONDS = 2.0  # it takes moments; a guest that answers later is told 202, and its action tells the rest


async def _change_password(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    """Answered when it has ended: who is told 202 takes the password for changed, with Nova as with us."""
    answer = await carry_out(call, "set-password", server_id, {"password": value["adminPass"]})
    if await ended(call, server_id, answer.request_id, PASSWORD_SECONDS) is not None:
        action = await call.services.read.action(server_id, answer.request_id)
        if action is not None and action.result == "Error":
            why = action.fault.message if action.fault is not None else action.text
            failed = Conflict(f"Failed to set admin password on {server_id} because {why}", reason="not_set")
            failed.recorded = True  # it was accepted, and its action says how it ended
            raise failed
    return empty(202)


async def _console_output(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    await server_of(call, server_id, "os_compute_api:os-console-output")
    length = value.get("length")
    lines = None if length in (None, "", -1, "-1") else int(str(length))
    result = await call.services.commands.ask_agent(server_id, "console_output", {"length": lines})
    return reply({"output": result.get("output", "")})


def _security_group(command: str, rule: str) -> Run:
    async def run(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
        server = await server_of(call, server_id, rule)
        if not server.interfaces:
            raise NotFound(
                f"instance_id {server_id} could not be found as device id on any ports",
                hint="Security groups belong to ports, and this server has none.",
            )
        group = await named(call, "security_group", value["name"], server.project_id)
        if not isinstance(group, SecurityGroup):
            raise NotFound(f"Security group {value['name']} not found for project {server.project_id}.")
        answer = await carry_out(call, command, server_id, {"group": group.name})
        present = command == "add-security-group"
        await set_on_ports(call.services.commands, answer.server, group, call.context, present=present)
        return empty(202)

    return run


def _old_console(protocol: str) -> Run:
    async def run(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
        url = await consoles.open_console(call, server_id, protocol, value["type"])
        return reply({"console": {"type": value["type"], "url": url}})

    return run


async def _rdp(call: Call, server_id: str, value: Any) -> Reply:
    raise Invalid("Unavailable console type rdp-html5.")


async def _add_fixed_ip(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    """One more address for the server's port on this network, from the first subnet that has one."""
    server = await server_of(call, server_id, "os_compute_api:os-multinic:add")
    port = await _port_where(call, server, lambda one: one.network_id == value["networkId"])
    if port is None:
        raise NotFound(
            f"Network could not be found for instance {server_id}.",
            hint="Attach an interface to it: openstack server add network",
        )
    must_be_legal(call, "add-fixed-ip", server)
    held = [{"subnet_id": ip.subnet_id, "ip_address": ip.address} for ip in port.fixed_ips]
    at, hint = call.services, "The network has no subnet."
    for subnet in await at.read.resources("subnet", where={"network_id": port.network_id}):
        try:
            changed = await change_addresses(
                at.commands, at.read, port, [*held, {"subnet_id": subnet.id}], call.context
            )
        except Conflict as full:
            hint = full.hint
            continue
        await refresh_addresses(at.commands, server, changed, call.context, "add-fixed-ip")
        return empty(202)
    raise Conflict(
        f"No fixed IP addresses available for network: {port.network_id}",
        hint=hint,
        code=400,
    )


async def _remove_fixed_ip(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    server = await server_of(call, server_id, "os_compute_api:os-multinic:remove")
    address = str(value["address"])
    port = await _port_where(call, server, lambda one: any(ip.address == address for ip in one.fixed_ips))
    if port is None:
        raise Invalid(f"Fixed IP {address} is not associated with instance {server_id}.")
    must_be_legal(call, "remove-fixed-ip", server)
    kept = [{"subnet_id": ip.subnet_id, "ip_address": ip.address} for ip in port.fixed_ips if ip.address != address]
    changed = await change_addresses(call.services.commands, call.services.read, port, kept, call.context)
    await refresh_addresses(call.services.commands, server, changed, call.context, "remove-fixed-ip")
    return empty(202)


async def _port_where(call: Call, server: Server, holds: Callable[[Port], bool]) -> Port | None:
    """The first of a server's ports, in the order of its interfaces, of which this holds."""
    for interface in server.interfaces:
        port = await call.services.commands.load("port", interface.port_id)
        if isinstance(port, Port) and holds(port):
            return port
    return None


def _in_network_api(what: str) -> Run:
    async def run(call: Call, server_id: str, value: Any) -> Reply:
        await server_of(call, server_id)
        raise NotImplementedHere(f"{what} is done with the network API here.", hint="Use /network/v2.0.")

    return run


ACTIONS: dict[str, Action] = {
    "changePassword": Action(_change_password),
    "os-getConsoleOutput": Action(_console_output),
    "addSecurityGroup": Action(_security_group("add-security-group", "os_compute_api:os-security-groups:add")),
    "removeSecurityGroup": Action(_security_group("remove-security-group", "os_compute_api:os-security-groups:remove")),
    "os-getVNCConsole": Action(_old_console("vnc"), until=5),
    "os-getSPICEConsole": Action(_old_console("spice"), until=5),
    "os-getSerialConsole": Action(_old_console("serial"), until=5),
    "os-getRDPConsole": Action(_rdp, until=5),
    "addFixedIp": Action(_add_fixed_ip, until=43),
    "removeFixedIp": Action(_remove_fixed_ip, until=43),
    "addFloatingIp": Action(_in_network_api("Associating a floating IP"), until=43),
    "removeFloatingIp": Action(_in_network_api("Disassociating a floating IP"), until=43),
}
