"""Actions on how a server is reached: password, consoles, security groups, addresses."""

from __future__ import annotations

from typing import Any

from api.compute import consoles
from api.compute.action import Action, Run
from api.compute.call import Call, Reply, empty, reply
from api.compute.carry_out import carry_out
from api.compute.lookups import named, server_of
from domain.errors import Invalid, NotFound, NotImplementedHere


async def _change_password(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    await carry_out(call, "set-password", server_id, {"password": value["adminPass"]})
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
        if group is None:
            raise NotFound(f"Security group {value['name']} not found for project {server.project_id}.")
        await carry_out(call, command, server_id, {"group": group.name})
        return empty(202)

    return run


def _old_console(protocol: str) -> Run:
    async def run(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
        url = await consoles.open_console(call, server_id, protocol, value["type"])
        return reply({"console": {"type": value["type"], "url": url}})

    return run


async def _rdp(call: Call, server_id: str, value: Any) -> Reply:
    raise Invalid("Unavailable console type rdp-html5.")


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
    "addFixedIp": Action(_in_network_api("Adding an address"), until=43),
    "removeFixedIp": Action(_in_network_api("Removing an address"), until=43),
    "addFloatingIp": Action(_in_network_api("Associating a floating IP"), until=43),
    "removeFloatingIp": Action(_in_network_api("Disassociating a floating IP"), until=43),
}
