"""Ports: the interfaces of guests, with the addresses they hold.

Addresses are taken and given back by `commands.networking`, so that no two ports can hold one. A port that a server
uses is taken off the server first; deleting it under a running guest would leave a guest that nobody can reach. What
changes on a port is told to its server, which shows addresses and security groups too.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.errors import NeutronError
from api.http import Json, caller, context, services, wrapped_object
from api.listing import living
from api.network import access
from api.network.attributes import must_be_known
from api.network.query import chosen, listed
from api.network.quotas import must_have_room
from api.network.security_groups import ensure_default
from api.shapes import flag, strings, text
from commands.networking import allocate_port, change_addresses, mac_of, release_port
from commands.server_ports import tell_server
from domain.addresses import MOST_PER_PORT
from domain.errors import Invalid, Rejected
from domain.ports import MAC, address_pairs, must_fit_security
from domain.resources import Network, Port

_TYPES = {
    "IpAddressAlreadyAllocated": ("IpAddressAlreadyAllocated", 409),
    "IpAddressGenerationFailure": ("IpAddressGenerationFailure", 409),
    "InvalidIpForNetwork": ("InvalidIpForNetwork", 400),
    "InvalidIpForSubnet": ("InvalidIpForSubnet", 400),
    "AllocationOnAutoAddressSubnet": ("AllocationOnAutoAddressSubnet", 400),
    "AllowedAddressPairExhausted": ("AllowedAddressPairExhausted", 400),
    "AllowedAddressPairsMissingIP": ("AllowedAddressPairsMissingIP", 400),
    "DuplicateAddressPairInRequest": ("DuplicateAddressPairInRequest", 400),
    "PortSecurityPortHasSecurityGroup": ("PortSecurityPortHasSecurityGroup", 409),
    "AddressPairAndPortSecurityRequired": ("AddressPairAndPortSecurityRequired", 409),
}


def port_view(port: Port, *, admin: bool, groups: dict[str, str] | None = None) -> dict[str, Any]:
    """`groups` names groups by id where a port holds names (the compute API knows groups by name)."""
    view = access.common(port) | {
        "network_id": port.network_id,
        "mac_address": port.mac,
        "admin_state_up": port.admin_state_up,
        "status": port.status,
        "device_id": port.device_id,
        "device_owner": port.device_owner,
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.address} for ip in port.fixed_ips],
        "security_groups": [(groups or {}).get(one, one) for one in port.security_groups],
        "allowed_address_pairs": list(port.allowed_address_pairs),
        "extra_dhcp_opts": [],
        "port_security_enabled": port.port_security_enabled,
        "dns_name": port.dns_name,
        "dns_assignment": [],
        "binding:vnic_type": "normal",
    }
    if admin:
        view |= {
            "binding:host_id": port.binding_host,
            "binding:vif_type": "tap" if port.binding_host else "unbound",
            "binding:vif_details": {},
            "binding:profile": {},
        }
    return view


async def _views(request: Request, ports: list[Port]) -> list[dict[str, Any]]:
    admin = caller(request).is_admin
    named: dict[str | None, dict[str, str]] = {}
    for port in ports:
        if port.project_id not in named and any(not _is_uuid(one) for one in port.security_groups):
            groups = await living(request, "security_group", project_id=port.project_id)
            named[port.project_id] = {one.name: one.id for one in groups}
    return [port_view(port, admin=admin, groups=named.get(port.project_id)) for port in ports]


def _is_uuid(given: str) -> bool:
    try:
        return str(UUID(given)) == given
    except ValueError:
        return False


async def list_ports(request: Request) -> Response:
    """Ports of the project"""
    ports = [cast(Port, one) for one in await access.visible(request, "port")]
    return listed(request, "ports", await _views(request, ports))


async def show_port(request: Request) -> Response:
    """One port"""
    views = await _views(request, [await access.find(request, "port")])
    return Json({"port": chosen(request, views[0])})


async def create_ports(request: Request) -> Response:
    """Create ports; each takes its addresses"""

    async def make(body: dict[str, Any]) -> dict[str, Any]:
        who = access.must_be_member(request, "create_port")
        network: Network = await access.find(request, "network", text(body, "network_id"))
        project_id = access.project_of(body, who)
        await must_have_room(request, "port", project_id)
        if body.get("fixed_ips") is not None and not (access.owns(who, network) or network.shared):
            raise access.refused("rule:create_port:fixed_ips")
        fields = await _changes(request, body, project_id)
        enabled = fields.get("port_security_enabled", True)
        if "security_groups" not in fields and enabled:
            group = await ensure_default(request, project_id)
            fields["security_groups"] = [group.id] if group else []
        mac = _mac(body)
        if mac is not None:
            await _must_be_free(request, network.id, mac)
        known = services(request)
        port_id = str(uuid4())
        try:
            fields |= _pairs(body, mac or mac_of(port_id))
            must_fit_security(
                enabled=enabled,
                groups=fields.get("security_groups", ()),
                pairs=fields.get("allowed_address_pairs", ()),
            )
            port = await allocate_port(
                known.commands,
                known.read,
                network_id=network.id,
                context=context(request),
                project_id=project_id,
                fixed_ips=_fixed_ips(body),
                port_id=port_id,
                mac=mac,
                **fields,
            )
        except Rejected as error:
            raise _neutron(error) from error
        return (await _views(request, [port]))[0]

    body, status = await access.create_all(request, "port", "ports", make)
    return Json(body, status_code=status)


def _neutron(error: Rejected) -> Rejected:
    """A refusal of the port's rules, in Neutron's type names."""
    if error.reason in _TYPES:
        type_, code = _TYPES[error.reason]
        return NeutronError(type_, code, error.message, hint=error.hint)
    return error


async def _changes(request: Request, body: dict[str, Any], project_id: str | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key in ("name", "description", "device_id", "device_owner", "dns_name"):
        if key in body:
            changes[key] = text(body, key, "") or ""
    if "admin_state_up" in body:
        changes["admin_state_up"] = flag(body, "admin_state_up")
    if "binding:host_id" in body:
        if not caller(request).is_admin:
            raise access.refused("rule:port:binding:host_id")
        changes["binding_host"] = text(body, "binding:host_id", "") or ""
    if body.get("security_groups") is not None:
        ids = strings(body, "security_groups")
        for id_ in ids:
            group = await services(request).read.resource("security_group", id_)
            if group is None or group.deleted or group.project_id not in (project_id, caller(request).project_id):
                raise access.not_found("security_group", id_)
        changes["security_groups"] = ids
    if body.get("port_security_enabled") is not None:
        changes["port_security_enabled"] = flag(body, "port_security_enabled")
    return changes


def _pairs(body: dict[str, Any], mac: str) -> dict[str, Any]:
    given = body.get("allowed_address_pairs")
    return {} if given is None else {"allowed_address_pairs": list(address_pairs(given, mac))}


def _mac(body: dict[str, Any]) -> str | None:
    found = text(body, "mac_address", None)
    if found is None:
        return None
    if not MAC.fullmatch(found.lower()) or int(found[1], 16) & 1:
        raise Invalid(f"Invalid input for mac_address. Reason: '{found}' is not a valid MAC address.")
    return found.lower()


async def _must_be_free(request: Request, network_id: str, mac: str) -> None:
    for other in await living(request, "port", where={"mac": mac}):
        if cast(Port, other).network_id == network_id:
            raise NeutronError(
                "MacAddressInUse",
                409,
                f"Unable to complete operation for network {network_id}. The mac address {mac} is in use.",
            )


def _fixed_ips(body: dict[str, Any]) -> list[dict[str, str]] | None:
    given = body.get("fixed_ips")
    if given is None:
        return None
    if not isinstance(given, list) or len(given) > MOST_PER_PORT:
        raise Invalid(f"fixed_ips has to be a list of at most {MOST_PER_PORT} addresses")
    for one in given:
        if not isinstance(one, dict) or not one or not set(one) <= {"subnet_id", "ip_address"}:
            raise Invalid("Each of fixed_ips has a subnet_id, an ip_address, or both")
        if not all(isinstance(value, str) for value in one.values()):
            raise Invalid("fixed_ips: subnet_id and ip_address have to be strings")
    return given


async def update_port(request: Request) -> Response:
    """Change a port; its network stays"""
    port: Port = await access.find_own(request, "port")
    body = await wrapped_object(request, "port")
    must_be_known("port", [body])
    changes = await _changes(request, body, port.project_id)
    mac = _mac(body)
    if mac is not None and mac != port.mac:
        if port.device_owner.startswith("compute:"):
            raise NeutronError("PortBound", 409, f"Unable to complete operation on port {port.id}: it is in use")
        await _must_be_free(request, port.network_id, mac)
        changes["mac"] = mac
    known = services(request)
    fixed_ips = _fixed_ips(body)

    def check(state: Port) -> None:
        must_fit_security(
            enabled=changes.get("port_security_enabled", state.port_security_enabled),
            groups=changes.get("security_groups", state.security_groups),
            pairs=changes.get("allowed_address_pairs", state.allowed_address_pairs),
        )

    try:
        changes |= _pairs(body, changes.get("mac", port.mac))
        check(port)
        if fixed_ips is not None:
            updated = await change_addresses(known.commands, known.read, port, fixed_ips, context(request), **changes)
        else:
            updated = cast(Port, await known.commands.update("port", port.id, changes, context(request), check=check))
    except Rejected as error:
        raise _neutron(error) from error
    await tell_server(known.commands, known.read, port, updated, context(request))
    return Json({"port": (await _views(request, [updated]))[0]})


async def delete_port(request: Request) -> Response:
    """Delete a port and give its addresses back"""
    port: Port = await access.find_own(request, "port")
    if port.device_id and port.device_owner.startswith("compute:"):
        server = await services(request).read.server(port.device_id)
        if server is not None and not server.deleted:
            raise NeutronError(
                "PortInUse",
                409,
                f"Unable to complete operation on port {port.id} for network {port.network_id}. Port already has an "
                f"attached device {port.device_id}.",
                hint=f"Take it off first: openstack server remove port {port.device_id} {port.id}",
            )
    await release_port(services(request).commands, port.id, context(request))
    return Response(status_code=204)


def routes() -> list[BaseRoute]:
    return [
        Route("/v2.0/ports", list_ports, methods=["GET"]),
        Route("/v2.0/ports", create_ports, methods=["POST"]),
        Route("/v2.0/ports/{id}", show_port, methods=["GET"]),
        Route("/v2.0/ports/{id}", update_port, methods=["PUT"]),
        Route("/v2.0/ports/{id}", delete_port, methods=["DELETE"]),
    ]
