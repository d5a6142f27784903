"""What is the same in every deployment: the version documents, the one domain, no groups, no limits."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json, boolean
from api.identity.access import DEFAULT_DOMAIN, DOMAIN, reads_only
from api.links import base_url
from domain.errors import NotFound


def _version(request: Request) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{base_url(request)}/identity/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


async def versions(request: Request) -> Response:
    """The versions of this API"""
    location = {"Location": f"{base_url(request)}/identity/v3/", "Vary": "X-Auth-Token"}
    return Json({"versions": {"values": [_version(request)]}}, status_code=300, headers=location)


async def version(request: Request) -> Response:
    """Version 3"""
    return Json({"version": _version(request)}, headers={"Vary": "X-Auth-Token"})


def _domain(request: Request) -> dict[str, Any]:
    return DOMAIN | {
        "enabled": True,
        "description": "The one domain",
        "tags": [],
        "options": {},
        "links": {"self": f"{base_url(request)}/identity/v3/domains/{DEFAULT_DOMAIN}"},
    }


async def list_domains(request: Request) -> Response:
    """The one domain"""
    params = request.query_params
    fits = params.get("name", DOMAIN["name"]).lower() == DOMAIN["name"].lower()
    fits = fits and (not params.get("enabled") or boolean(params["enabled"]))
    shown = [_domain(request)] if fits else []
    return Json({"domains": shown, "links": {"self": str(request.url), "next": None, "previous": None}})


async def show_domain(request: Request) -> Response:
    """The one domain"""
    if request.path_params["id"] != DEFAULT_DOMAIN:
        raise NotFound(f"Could not find domain: {request.path_params['id']}.")
    return Json({"domain": _domain(request)})


async def empty(request: Request) -> Response:
    """An empty list: there are none here"""
    key = request.url.path.rpartition("/")[2]
    return Json({key: [], "links": {"self": str(request.url), "next": None, "previous": None}})


async def missing(request: Request) -> Response:
    """Not found: there are none here"""
    kind = request.url.path.split("/")[-2].removesuffix("s")
    raise NotFound(f"Could not find {kind}: {request.path_params['id']}.")


def routes() -> list[BaseRoute]:
    one_domain = reads_only("This deployment has the one domain Default")
    no_groups = reads_only("This deployment has no groups: give roles to users")
    no_limits = reads_only("Limits are set as quotas of the compute, network and volume APIs")
    found: list[BaseRoute] = [
        Route("/", versions),
        Route("/v3", version),
        Route("/v3/domains", list_domains, methods=["GET"]),
        Route("/v3/domains", one_domain, methods=["POST"]),
        Route("/v3/domains/{id}", show_domain, methods=["GET"]),
        Route("/v3/domains/{id}", one_domain, methods=["PATCH", "DELETE"]),
    ]
    refusals = {"groups": no_groups, "limits": no_limits, "registered_limits": no_limits}
    for collection, refuse in refusals.items():
        found += [
            Route(f"/v3/{collection}", empty, methods=["GET"]),
            Route(f"/v3/{collection}", refuse, methods=["POST"]),
            Route(f"/v3/{collection}/{{id}}", missing, methods=["GET", "PATCH", "DELETE"]),
        ]
    return found
