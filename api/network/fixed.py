"""What is the same in every deployment: versions, extensions, one zone; no routers, floating IPs or agents."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.errors import NeutronError
from api.http import Json
from api.links import base_url

# alias -> name and what it means here: only what this API really does
EXTENSIONS = {
    "security-group": ("security-group", "The security groups extension."),
    "quotas": ("Quota management support", "Expose functions for quotas management per project."),
    "quota_details": ("Quota details management support", "Expose quota usage statistics per project."),
    "external-net": ("Neutron external network", "Adds external network attribute to network resource."),
    "net-mtu": ("Network MTU", "Provides MTU attribute for a network resource."),
    "net-mtu-writable": ("Network MTU (writable)", "Provides a writable MTU attribute for a network resource."),
    "port-security": ("Port Security", "Lets a port go without filters."),
    "allowed-address-pairs": ("Allowed Address Pairs", "Provides allowed address pairs."),
    "binding": ("Port Binding", "Expose port bindings of a virtual port to external application."),
    "agent": ("agent", "The agent management extension."),
    "availability_zone": ("Availability Zone", "The availability zone extension."),
    "network_availability_zone": ("Network Availability Zone", "Availability zone support for network."),
    "standard-attr-description": ("standard-attr-description", "Extension to add descriptions to standard attributes."),
    "standard-attr-revisions": ("Resource revision numbers", "A revision number of resources."),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Enables to set tag on resources."),
    "standard-attr-timestamp": ("Resource timestamps", "Adds created_at and updated_at fields."),
    "project-id": ("project_id field enabled", "Extension that indicates that project_id field is enabled."),
    "pagination": ("Pagination support", "Extension that indicates that pagination is enabled."),
    "sorting": ("Sorting support", "Extension that indicates that sorting is enabled."),
}
_EMPTY = {
    "routers": "Router",
    "floatingips": "FloatingIP",
    "agents": "Agent",
    "subnetpools": "SubnetPool",
    "address-scopes": "AddressScope",
    "address-groups": "AddressGroup",
    "rbac-policies": "RbacPolicy",
    "trunks": "Trunk",
    "segments": "Segment",
}


async def versions(request: Request) -> Response:
    """The versions of this API"""
    link = {"rel": "self", "href": f"{base_url(request)}/network/v2.0/"}
    return Json({"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})


async def resources(request: Request) -> Response:
    """The collections of version 2.0"""
    base = base_url(request)
    names = ("networks", "subnets", "ports", "security-groups", "security-group-rules", "quotas")
    found = [
        {
            "name": name.removesuffix("s"),
            "collection": name,
            "links": [{"rel": "self", "href": f"{base}/network/v2.0/{name}"}],
        }
        for name in names
    ]
    return Json({"resources": found})


def _extension(alias: str) -> dict[str, Any]:
    name, description = EXTENSIONS[alias]
    return {
        "alias": alias,
        "name": name,
        "description": description,
        "updated": "2020-01-01T00:00:00-00:00",
        "links": [],
    }


async def list_extensions(request: Request) -> Response:
    """The extensions that this API has"""
    return Json({"extensions": [_extension(alias) for alias in EXTENSIONS]})


async def show_extension(request: Request) -> Response:
    """One extension"""
    alias = request.path_params["alias"]
    if alias not in EXTENSIONS:
        raise NeutronError("HTTPNotFound", 404, f"Extension with alias {alias} does not exist")
    return Json({"extension": _extension(alias)})


async def availability_zones(request: Request) -> Response:
    """The one availability zone of networks"""
    return Json({"availability_zones": [{"name": "nova", "resource": "network", "state": "available"}]})


def _collection(request: Request) -> str:
    return request.url.path.split("/v2.0/")[1].partition("/")[0]


async def empty(request: Request) -> Response:
    """An empty list: there are none here"""
    return Json({_collection(request).replace("-", "_"): []})


async def missing(request: Request) -> Response:
    """Not found: there are none here"""
    name = _EMPTY[_collection(request)]
    raise NeutronError(f"{name}NotFound", 404, f"{name} {request.path_params['id']} could not be found.")


async def not_offered(request: Request) -> Response:
    """Not offered here"""
    name = _EMPTY[_collection(request)]
    raise NeutronError(
        "HTTPNotImplemented", 501, f"{name} is not offered here", hint="Guests are reached on their own networks"
    )


def routes() -> list[BaseRoute]:
    found: list[BaseRoute] = [
        Route("/", versions),
        Route("/v2.0", resources),
        Route("/v2.0/extensions", list_extensions),
        Route("/v2.0/extensions/{alias}", show_extension),
        Route("/v2.0/availability_zones", availability_zones),
    ]
    for collection in _EMPTY:
        found += [
            Route(f"/v2.0/{collection}", empty, methods=["GET"]),
            Route(f"/v2.0/{collection}", not_offered, methods=["POST"]),
            Route(f"/v2.0/{collection}/{{id}}", missing, methods=["GET", "PUT", "DELETE"]),
            Route(f"/v2.0/{collection}/{{id}}/{{rest:path}}", missing, methods=["GET", "PUT", "POST", "DELETE"]),
        ]
    return found
