"""The networks and security groups that a new server asks for."""

from __future__ import annotations

from typing import Any, cast

from api.compute.call import Call
from api.compute.lookups import named
from commands.networking import address_id
from domain.errors import Conflict, Invalid
from domain.resources import Address, Network, Port
from domain.server import NetworkRequest

Requests = tuple[NetworkRequest, ...] | None


async def networks_of(call: Call, wanted: dict[str, Any], count: int) -> Requests:
    """None is "auto", the one network there is. Raises `Invalid` for what is missing, `Conflict` for what is used."""
    asked = wanted.get("networks")
    if asked == "none":
        return ()
    if asked in (None, "auto") or asked == []:
        return await _automatic(call, asked)
    return tuple([await _request(call, one, count) for one in asked])


async def _automatic(call: Call, asked: object) -> Requests:
    """Checked now, so that an ambiguous request is refused instead of failing later."""
    found = [cast("Network", one) for one in await call.services.read.resources("network")]
    usable = [one for one in found if not one.external and (one.shared or one.project_id == call.project_id)]
    if len(usable) > 1:
        raise Conflict(
            "Multiple possible networks found, use a Network ID to be more specific.",
            hint="Name one of them in networks.",
            reason="ambiguous_network",
        )
    return None


async def _request(call: Call, one: dict[str, Any], count: int) -> NetworkRequest:
    tag, port_id, network_id = one.get("tag"), one.get("port"), one.get("uuid")
    if port_id is not None:
        if one.get("fixed_ip"):
            raise Invalid(f"Specified fixed IP '{one['fixed_ip']}' cannot be used with port '{port_id}'.")
        if count > 1:
            raise Invalid("Unable to launch multiple instances with a single configured port ID.")
        port = await call.services.read.resource("port", port_id)
        if not isinstance(port, Port) or port.deleted or not _usable(call, port.project_id):
            raise Invalid(f"Port {port_id} could not be found.")
        if port.device_id:
            raise Conflict(f"Port {port_id} is still in use.", hint="Detach it first or name another.")
        return NetworkRequest(network_id=port.network_id, port_id=port_id, tag=tag)
    if network_id is None:
        raise Invalid("Bad network format: missing 'uuid'", hint="Name a network or a port.")
    network = await call.services.read.resource("network", network_id)
    if not isinstance(network, Network) or network.deleted or not (network.shared or _usable(call, network.project_id)):
        raise Invalid(f"Network {network_id} could not be found.")
    if one.get("fixed_ip"):
        if count > 1:
            raise Invalid("Unable to launch multiple instances with a single configured fixed IP.")
        await _must_be_free(call, network_id, one["fixed_ip"])
    return NetworkRequest(network_id=network_id, fixed_ip=one.get("fixed_ip"), tag=tag)


async def _must_be_free(call: Call, network_id: str, address: str) -> None:
    """Checked now for whoever asks; the port's own claim decides."""
    for subnet in await call.services.read.resources("subnet", where={"network_id": network_id}):
        held = await call.services.read.resource("address", address_id(subnet.id, address))
        if isinstance(held, Address) and held.port_id is not None:
            port = await call.services.read.resource("port", held.port_id)
            holder = port.device_id if isinstance(port, Port) else ""
            raise Invalid(f"Fixed IP address {address} is already in use on instance {holder or 'None'}.")


def _usable(call: Call, project_id: str | None) -> bool:
    return call.is_admin or project_id == call.project_id


async def security_groups_of(call: Call, wanted: dict[str, Any]) -> tuple[str, ...]:
    """The names of the groups; "default" where none is named."""
    names: list[str] = []
    for group in wanted.get("security_groups") or ({"name": "default"},):
        name = group.get("name", "default")
        if name != "default":
            found = await named(call, "security_group", name, call.project_id)
            if found is None:
                raise Invalid(f"Unable to find security_group with name or id '{name}'")
            name = found.name
        if name not in names:
            names.append(name)
    return tuple(names)
