"""The version document, and the resource classes and traits that this deployment knows."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json
from api.links import base_url
from api.microversions import Microversions, text_of
from domain.errors import NotFound

CLASSES = ("VCPU", "MEMORY_MB", "DISK_GB")
VERSIONS = Microversions("placement", lowest=(1, 0), highest=(1, 39))
TRAITS = ("COMPUTE_STATUS_DISABLED", "COMPUTE_NODE", "HW_ARCH_X86_64")


async def versions(request: Request) -> Response:
    """The versions of this API"""
    version = {
        "id": "v1.0",
        "max_version": text_of(VERSIONS.highest),
        "min_version": text_of(VERSIONS.lowest),
        "status": "CURRENT",
        "links": [{"rel": "self", "href": f"{base_url(request)}/placement"}],
    }
    return Json({"versions": [version]})


async def list_classes(request: Request) -> Response:
    """The resource classes in use"""
    found = [
        {"name": name, "links": [{"rel": "self", "href": f"/placement/resource_classes/{name}"}]} for name in CLASSES
    ]
    return Json({"resource_classes": found})


async def show_class(request: Request) -> Response:
    """One resource class"""
    name = request.path_params["name"]
    if name not in CLASSES:
        raise NotFound(f"No such resource class: {name}.")
    return Json({"name": name, "links": [{"rel": "self", "href": f"/placement/resource_classes/{name}"}]})


async def list_traits(request: Request) -> Response:
    """The traits in use"""
    wanted = request.query_params.get("name", "")
    kind, _, value = wanted.partition(":")
    found = [
        trait
        for trait in TRAITS
        if not wanted
        or (kind == "startswith" and trait.startswith(value))
        or (kind == "in" and trait in value.split(","))
    ]
    return Json({"traits": found})


async def show_trait(request: Request) -> Response:
    """Whether a trait is known"""
    name = request.path_params["name"]
    if name not in TRAITS:
        raise NotFound(f"No such trait: {name}.")
    return Response(status_code=204)


def routes() -> list[BaseRoute]:
    return [
        Route("/", versions),
        Route("/resource_classes", VERSIONS.named(list_classes)),
        Route("/resource_classes/{name}", VERSIONS.named(show_class)),
        Route("/traits", VERSIONS.named(list_traits)),
        Route("/traits/{name}", VERSIONS.named(show_trait)),
    ]
