"""Networks: the segments that guests share."""

from __future__ import annotations

from typing import Any, cast

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
from api.shapes import flag, number, text
from domain.resources import Network, Subnet

DEFAULT_MTU = 1450


def network_view(network: Network, subnet_ids: list[str]) -> dict[str, Any]:
    return access.common(network) | {
        "admin_state_up": network.admin_state_up,
        "status": "ACTIVE" if network.admin_state_up else "DOWN",
        "subnets": subnet_ids,
        "shared": network.shared,
        "router:external": network.external,
        "is_default": network.is_default,
        "mtu": network.mtu,
        "port_security_enabled": True,
        "availability_zone_hints": [],
        "availability_zones": ["nova"],
        "ipv4_address_scope": None,
        "ipv6_address_scope": None,
    }


async def _view(request: Request, network: Network) -> dict[str, Any]:
    subnets = await living(request, "subnet", where={"network_id": network.id})
    return network_view(network, [one.id for one in subnets])


async def list_networks(request: Request) -> Response:
    """Networks of the project, and those shared with everybody"""
    subnets: dict[str, list[str]] = {}
    for subnet in await living(request, "subnet"):
        subnets.setdefault(cast(Subnet, subnet).network_id, []).append(subnet.id)
    networks = [cast(Network, one) for one in await access.visible(request, "network")]
    return listed(request, "networks", [network_view(one, subnets.get(one.id, [])) for one in networks])


async def show_network(request: Request) -> Response:
    """One network"""
    return Json({"network": chosen(request, await _view(request, await access.find(request, "network")))})


def _changes(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "name" in body:
        changes["name"] = text(body, "name", "") or ""
    if "description" in body:
        changes["description"] = text(body, "description", "") or ""
    if "admin_state_up" in body:
        changes["admin_state_up"] = flag(body, "admin_state_up")
    if "mtu" in body:
        changes["mtu"] = number(body, "mtu", least=68, most=65535)
    for key, field in (("shared", "shared"), ("router:external", "external"), ("is_default", "is_default")):
        if key in body:
            changes[field] = flag(body, key, False)
            if changes[field] and not caller(request).is_admin:
                raise access.refused(f"rule:network:{key}")
    return changes


async def create_networks(request: Request) -> Response:
    """Create networks"""

    async def make(body: dict[str, Any]) -> dict[str, Any]:
        who = access.must_be_member(request, "create_network")
        project_id = access.project_of(body, who)
        fields = {"name": "", "mtu": DEFAULT_MTU, "project_id": project_id} | _changes(request, body)
        await must_have_room(request, "network", project_id)
        created = await services(request).commands.create("network", fields, context(request))
        return network_view(cast(Network, created), [])

    body, status = await access.create_all(request, "network", "networks", make)
    return Json(body, status_code=status)


async def update_network(request: Request) -> Response:
    """Change a network"""
    network = await access.find_own(request, "network")
    body = await wrapped_object(request, "network")
    must_be_known("network", [body])
    changes = _changes(request, body)
    updated = await services(request).commands.update("network", network.id, changes, context(request))
    return Json({"network": await _view(request, cast(Network, updated))})


async def delete_network(request: Request) -> Response:
    """Delete a network and its subnets; no port may be left on it"""
    network = await access.find_own(request, "network")
    if await services(request).read.resources("port", where={"network_id": network.id}, limit=1):
        raise NeutronError(
            "NetworkInUse",
            409,
            f"Unable to complete operation on network {network.id}. There are one or more ports still in use on it",
            hint="Delete those ports first: openstack port list --network " + network.id,
        )
    commands, who = services(request).commands, context(request)
    for subnet in await living(request, "subnet", where={"network_id": network.id}):
        await commands.delete("subnet", subnet.id, who)
    await commands.delete("network", network.id, who)
    return Response(status_code=204)


def routes() -> list[BaseRoute]:
    return [
        Route("/v2.0/networks", list_networks, methods=["GET"]),
        Route("/v2.0/networks", create_networks, methods=["POST"]),
        Route("/v2.0/networks/{id}", show_network, methods=["GET"]),
        Route("/v2.0/networks/{id}", update_network, methods=["PUT"]),
        Route("/v2.0/networks/{id}", delete_network, methods=["DELETE"]),
    ]
