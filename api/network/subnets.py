"""Subnets: the addresses of a network."""

from __future__ import annotations

import ipaddress
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.errors import NeutronError
from api.http import Json, context, services, wrapped_object
from api.listing import living
from api.network import access
from api.network.attributes import must_be_known
from api.network.cidr import default_pools, gateway_of, network_of, pools_of
from api.network.query import chosen, listed
from api.network.quotas import must_have_room
from api.shapes import flag, number, strings, text
from domain.addresses import MODES, must_be_modes
from domain.errors import Invalid
from domain.resources import Address, Subnet


def subnet_view(subnet: Subnet) -> dict[str, Any]:
    return access.common(subnet) | {
        "network_id": subnet.network_id,
        "ip_version": subnet.ip_version,
        "cidr": subnet.cidr,
        "gateway_ip": subnet.gateway_ip,
        "enable_dhcp": subnet.enable_dhcp,
        "allocation_pools": [{"start": start, "end": end} for start, end in subnet.allocation_pools],
        "dns_nameservers": list(subnet.dns_nameservers),
        "host_routes": list(subnet.host_routes),
        "ipv6_address_mode": subnet.ipv6_address_mode,
        "ipv6_ra_mode": subnet.ipv6_ra_mode,
        "subnetpool_id": None,
        "segment_id": None,
        "service_types": [],
        "dns_publish_fixed_ip": False,
    }


async def list_subnets(request: Request) -> Response:
    """Subnets of the networks that the caller sees"""
    found = await access.visible(request, "subnet")
    return listed(request, "subnets", [subnet_view(cast(Subnet, one)) for one in found])


async def show_subnet(request: Request) -> Response:
    """One subnet"""
    return Json({"subnet": chosen(request, subnet_view(await access.find(request, "subnet")))})


def _changes(body: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key in ("name", "description"):
        if key in body:
            changes[key] = text(body, key, "") or ""
    if "enable_dhcp" in body:
        changes["enable_dhcp"] = flag(body, "enable_dhcp")
    if "dns_nameservers" in body:
        servers = strings(body, "dns_nameservers", [], most=5)
        for one in servers:
            _address(one, "dns_nameservers")
        changes["dns_nameservers"] = servers
    if "host_routes" in body:
        changes["host_routes"] = _host_routes(body["host_routes"])
    return changes


def _host_routes(given: Any) -> list[dict[str, str]]:
    if not isinstance(given, list) or len(given) > 20:
        raise Invalid("host_routes has to be a list of at most 20 routes")
    for one in given:
        if not isinstance(one, dict) or set(one) != {"destination", "nexthop"}:
            raise Invalid("A host route has a destination and a nexthop")
        network_of(one["destination"], None)
        _address(one["nexthop"], "nexthop")
    return given


def _address(given: Any, what: str) -> None:
    try:
        ipaddress.ip_address(given)
    except ValueError as error:
        raise Invalid(f"{what}: {given!r} is not an IP address") from error


async def create_subnets(request: Request) -> Response:
    """Create subnets"""

    async def make(body: dict[str, Any]) -> dict[str, Any]:
        access.must_be_member(request, "create_subnet")
        network = await access.find_own(request, "network", text(body, "network_id"))
        if body.get("subnetpool_id") or body.get("use_default_subnetpool"):
            raise Invalid("Subnet pools are not offered here", hint="Give a cidr")
        version = number(body, "ip_version", None, least=4, most=6)
        cidr = network_of(text(body, "cidr"), version)
        await _must_not_overlap(request, network.id, cidr)
        modes = {key: _mode(body, key) for key in ("ipv6_ra_mode", "ipv6_address_mode")}
        changes = _changes(body)
        must_be_modes(cidr.version, str(cidr), *modes.values(), dhcp=changes.get("enable_dhcp", True))
        gateway = gateway_of(body, cidr)
        pools = pools_of(body, cidr, gateway) if body.get("allocation_pools") else default_pools(cidr, gateway)
        await must_have_room(request, "subnet", network.project_id)
        fields = {
            "name": "",
            "project_id": network.project_id,
            "network_id": network.id,
            "cidr": str(cidr),
            "ip_version": cidr.version,
            "gateway_ip": gateway,
            "allocation_pools": pools,
            **modes,
            **changes,
        }
        created = await services(request).commands.create("subnet", fields, context(request))
        return subnet_view(cast(Subnet, created))

    body, status = await access.create_all(request, "subnet", "subnets", make)
    return Json(body, status_code=status)


def _mode(body: dict[str, Any], key: str) -> str | None:
    given = text(body, key, None)
    if given is not None and given not in MODES:
        raise Invalid(f"Invalid input for {key}. Reason: '{given}' is not in {list(MODES)}.")
    return given


async def _must_not_overlap(request: Request, network_id: str, cidr: Any) -> None:
    for other in await living(request, "subnet", where={"network_id": network_id}):
        held = ipaddress.ip_network(cast(Subnet, other).cidr)
        if held.version == cidr.version and held.overlaps(cidr):
            raise NeutronError(
                "InvalidInput",
                400,
                f"Invalid input for operation: Requested subnet with cidr: {cidr} for network: {network_id} overlaps "
                f"with another subnet.",
            )


async def update_subnet(request: Request) -> Response:
    """Change a subnet"""
    subnet: Subnet = await access.find_own(request, "subnet")
    body = await wrapped_object(request, "subnet")
    must_be_known("subnet", [body])
    changes = _changes(body)
    for key in ("ipv6_ra_mode", "ipv6_address_mode"):
        if key in body and body[key] != getattr(subnet, key):
            raise Invalid(f"Cannot update read-only attribute {key}", hint="Make another subnet with the mode you want")
    cidr = network_of(subnet.cidr, None)
    if "gateway_ip" in body:
        changes["gateway_ip"] = gateway_of(body, cidr)
    if "allocation_pools" in body:
        changes["allocation_pools"] = pools_of(body, cidr, changes.get("gateway_ip", subnet.gateway_ip))
    updated = await services(request).commands.update("subnet", subnet.id, changes, context(request))
    return Json({"subnet": subnet_view(cast(Subnet, updated))})


async def delete_subnet(request: Request) -> Response:
    """Delete a subnet; no port may hold an address of it"""
    subnet = await access.find_own(request, "subnet")
    held = await living(request, "address", where={"subnet_id": subnet.id})
    if any(cast(Address, one).port_id for one in held):
        raise NeutronError(
            "SubnetInUse",
            409,
            f"Unable to complete operation on subnet {subnet.id}: One or more ports have an IP allocation from this "
            f"subnet.",
            hint="Delete those ports first",
        )
    await services(request).commands.delete("subnet", subnet.id, context(request))
    return Response(status_code=204)


def routes() -> list[BaseRoute]:
    return [
        Route("/v2.0/subnets", list_subnets, methods=["GET"]),
        Route("/v2.0/subnets", create_subnets, methods=["POST"]),
        Route("/v2.0/subnets/{id}", show_subnet, methods=["GET"]),
        Route("/v2.0/subnets/{id}", update_subnet, methods=["PUT"]),
        Route("/v2.0/subnets/{id}", delete_subnet, methods=["DELETE"]),
    ]
