"""The catalog: which services this deployment has and where, and the read-only lists made of it.

Everything is served under the address that the caller used, so the catalog is made per request and never stored.
"""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json, services
from api.identity.access import must_be_admin, reads_only
from api.links import base_url
from domain.errors import NotFound

# type, name, path under the base address
SERVICES = (
    ("identity", "keystone", "/identity"),
    ("compute", "nova", "/compute/v2.1"),
    ("image", "glance", "/image"),
    ("network", "neutron", "/network"),
    ("block-storage", "cinder", "/volume/v3"),
    ("placement", "placement", "/placement"),
)
INTERFACES = ("public", "internal", "admin")


def _id(what: str) -> str:
    return uuid5(NAMESPACE_URL, f"chronova:{what}").hex


def catalog(request: Request) -> list[dict[str, Any]]:
    """The catalog of a token."""
    region, base = services(request).settings.region, base_url(request)
    return [
        {
            "id": _id(f"service/{type_}"),
            "type": type_,
            "name": name,
            "endpoints": [
                {
                    "id": _id(f"endpoint/{type_}/{interface}"),
                    "interface": interface,
                    "region": region,
                    "region_id": region,
                    "url": base + path,
                }
                for interface in INTERFACES
            ],
        }
        for type_, name, path in SERVICES
    ]


def _services(request: Request) -> list[dict[str, Any]]:
    base = base_url(request)
    return [
        {
            "id": _id(f"service/{type_}"),
            "type": type_,
            "name": name,
            "enabled": True,
            "description": f"chronova {type_}",
            "links": {"self": f"{base}/identity/v3/services/{_id(f'service/{type_}')}"},
        }
        for type_, name, _ in SERVICES
    ]


def _endpoints(request: Request) -> list[dict[str, Any]]:
    base = base_url(request)
    return [
        endpoint
        | {
            "service_id": service["id"],
            "enabled": True,
            "links": {"self": f"{base}/identity/v3/endpoints/{endpoint['id']}"},
        }
        for service in catalog(request)
        for endpoint in service["endpoints"]
    ]


def _regions(request: Request) -> list[dict[str, Any]]:
    region = services(request).settings.region
    links = {"self": f"{base_url(request)}/identity/v3/regions/{region}"}
    return [{"id": region, "description": "", "parent_region_id": None, "links": links}]


_COLLECTIONS = {"services": _services, "endpoints": _endpoints, "regions": _regions}


async def list_all(request: Request) -> Response:
    """Services, endpoints or regions of the catalog"""
    must_be_admin(request)
    collection = request.url.path.rpartition("/")[2]
    items = _COLLECTIONS[collection](request)
    for key, value in request.query_params.items():
        if items and key in items[0]:
            items = [item for item in items if str(item[key]).lower() == value.lower()]
    links = {"self": str(request.url), "next": None, "previous": None}
    return Json({collection: items, "links": links})


async def show(request: Request) -> Response:
    """One service, endpoint or region"""
    must_be_admin(request)
    collection, wanted = request.url.path.split("/")[-2], request.path_params["id"]
    for item in _COLLECTIONS[collection](request):
        if item["id"] == wanted:
            return Json({collection[:-1]: item})
    raise NotFound(f"Could not find {collection[:-1]}: {wanted}.")


def routes() -> list[BaseRoute]:
    why = "The catalog is made of what this deployment runs and cannot be edited"
    found: list[BaseRoute] = []
    for collection in _COLLECTIONS:
        found += [
            Route(f"/v3/{collection}", list_all, methods=["GET"]),
            Route(f"/v3/{collection}", reads_only(why), methods=["POST"]),
            Route(f"/v3/{collection}/{{id}}", show, methods=["GET"]),
            Route(f"/v3/{collection}/{{id}}", reads_only(why), methods=["PUT", "PATCH", "DELETE"]),
        ]
    return found
