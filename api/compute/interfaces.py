"""/servers/{id}/os-interface: the ports of a server."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

from api.compute.call import Call, Reply, empty, reply
from api.compute.carry_out import carry_out, state_comes_first
from api.compute.dispatch import Route
from api.compute.ending import ended
from api.compute.lookups import server_of
from api.compute.schemas import attachments as schemas
from commands.server_ports import NO_ADDRESS
from domain.errors import Conflict, Invalid, NotFound
from domain.resources import Network, Port
from domain.server import Interface, Server

ATTACH_SECONDS = 30.0


def _view(call: Call, interface: Interface) -> dict[str, Any]:
    body: dict[str, Any] = {
        "net_id": interface.network_id,
        "port_id": interface.port_id,
        "mac_addr": interface.mac,
        "port_state": "ACTIVE",
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.address} for ip in interface.fixed_ips],
    }
    if call.version >= 70:
        body["tag"] = interface.tag
    return body


async def index(call: Call) -> Reply:
    server = await server_of(call, call.params[0], "os_compute_api:os-attach-interfaces:list")
    return reply({"interfaceAttachments": [_view(call, one) for one in server.interfaces]})


async def show(call: Call) -> Reply:
    server_id, port_id = call.params
    server = await server_of(call, server_id, "os_compute_api:os-attach-interfaces:show")
    found = _of_port(server, port_id)
    if found is None:
        if await _port(call, port_id) is None:
            raise NotFound(f"Port id {port_id} could not be found.")
        raise NotFound(f"Instance {server_id} does not have a port with id {port_id}")
    return reply({"interfaceAttachment": _view(call, found)})


def _of_port(server: Server, port_id: str) -> Interface | None:
    return next((one for one in server.interfaces if one.port_id == port_id), None)


async def _port(call: Call, port_id: str) -> Port | None:
    port = await call.services.read.resource("port", port_id)
    if port is None or port.deleted or not (call.is_admin or port.project_id == call.project_id):
        return None
    return cast("Port", port)


async def create(call: Call) -> Reply:
    """Attach, and wait until the guest has the interface: clients expect its addresses in the answer."""
    server_id = call.params[0]
    body = await call.object()
    schemas.INTERFACE.check(call.version, body)
    wanted: dict[str, Any] = body.get("interfaceAttachment", {})
    server = await server_of(call, server_id, "os_compute_api:os-attach-interfaces:create")
    with state_comes_first(call, "attach-interface", server):
        params = await _request(call, server, wanted)
    if "tag" in wanted:
        params["tag"] = wanted["tag"]
    answer = await carry_out(call, "attach-interface", server_id, params)
    after = await ended(call, server_id, answer.request_id, ATTACH_SECONDS)
    if after is None:
        raise Conflict("Failed to attach interface", hint="It takes longer than expected; look at the server's events.")
    interface = _of_port(after, params["port_id"])
    if interface is None:
        fault = after.fault
        if fault is not None and fault.reason in NO_ADDRESS:
            taken = fault.reason == "IpAddressAlreadyAllocated"
            raise (Conflict if taken else Invalid)(fault.message, reason=fault.reason)
        if fault is not None and fault.reason == "unsupported":
            said = f"Attaching interfaces is not supported for instance {server_id}."
            raise Invalid(said, hint=fault.message, reason=fault.reason)
        raise Conflict(
            "Failed to attach interface", hint=fault.message if fault else "See the server's events.", code=500
        )
    return reply({"interfaceAttachment": _view(call, interface)})


async def _request(call: Call, server: Server, wanted: dict[str, Any]) -> dict[str, Any]:
    network_id, port_id, fixed_ips = wanted.get("net_id"), wanted.get("port_id"), wanted.get("fixed_ips")
    if network_id and port_id:
        raise Invalid("Must not input both network_id and port_id")
    if fixed_ips and not network_id:
        raise Invalid("Must input network_id when request IP address")
    if port_id is not None:
        port = await _port(call, port_id)
        if port is None:
            raise NotFound(f"Port {port_id} not found.")
        if port.device_id:
            raise Conflict(f"Port {port_id} is still in use.", hint="Detach it first or name another.")
        return {"port_id": port_id, "network_id": port.network_id, "create": False}
    if network_id is None:
        network_id = await _only_network(call, server)
    else:
        network = await call.services.read.resource("network", network_id)
        usable = isinstance(network, Network) and (
            network.shared or call.is_admin or network.project_id == call.project_id
        )
        if network is None or network.deleted or not usable:
            raise NotFound(f"Network {network_id} could not be found.")
    params: dict[str, Any] = {"port_id": str(uuid4()), "network_id": network_id, "create": True}
    if fixed_ips:
        params["fixed_ip"] = fixed_ips[0]["ip_address"]
    return params


async def _only_network(call: Call, server: Server) -> str:
    found = [cast("Network", one) for one in await call.services.read.resources("network")]
    usable = [one for one in found if not one.external and (one.shared or one.project_id == server.project_id)]
    if len(usable) != 1:
        problem = "Multiple possible networks found, use a Network ID to be more specific."
        raise Invalid(problem) if usable else NotFound("No network was requested and none can be chosen.")
    return usable[0].id


async def delete(call: Call) -> Reply:
    server_id, port_id = call.params
    server = await server_of(call, server_id, "os_compute_api:os-attach-interfaces:delete")
    if _of_port(server, port_id) is None:
        with state_comes_first(call, "detach-interface", server):
            raise NotFound(f"Port {port_id} not found.", hint=f"Server {server_id} has no such port.")
    await carry_out(call, "detach-interface", server_id, {"port_id": port_id})
    return empty(202)


ROUTES = [
    Route("GET", "/servers/{}/os-interface", index),
    Route("POST", "/servers/{}/os-interface", create),
    Route("GET", "/servers/{}/os-interface/{}", show),
    Route("DELETE", "/servers/{}/os-interface/{}", delete),
]
