"""Tags of networks, subnets, ports and security groups."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.errors import NeutronError
from api.http import Json, context, json_object, services
from api.network import access
from api.shapes import strings
from domain.errors import Invalid

KINDS = {"networks": "network", "subnets": "subnet", "ports": "port", "security-groups": "security_group"}
LONGEST = 255
MOST = 50


def _kind(request: Request) -> str:
    return KINDS[request.url.path.split("/v2.0/")[1].partition("/")[0]]


async def list_tags(request: Request) -> Response:
    """The tags of a resource"""
    return Json({"tags": list((await access.find(request, _kind(request))).tags)})


async def set_tags(request: Request) -> Response:
    """Replace the tags of a resource"""
    tags = strings(await json_object(request), "tags", most=MOST)
    await _change(request, lambda state: {"tags": sorted(set(tags))})
    return Json({"tags": sorted(set(tags))})


async def clear_tags(request: Request) -> Response:
    """Remove all tags of a resource"""
    await _change(request, lambda state: {"tags": []})
    return Response(status_code=204)


async def has_tag(request: Request) -> Response:
    """Whether a resource has a tag"""
    found = await access.find(request, _kind(request))
    if request.path_params["tag"] not in found.tags:
        raise NeutronError("TagNotFound", 404, f"Tag {request.path_params['tag']} could not be found.")
    return Response(status_code=204)


async def add_tag(request: Request) -> Response:
    """Add a tag to a resource"""
    tag = request.path_params["tag"]
    if len(tag) > LONGEST:
        raise Invalid(f"A tag has at most {LONGEST} characters")
    await _change(request, lambda state: {"tags": sorted({*state.tags, tag})[:MOST]})
    return Response(status_code=201)


async def remove_tag(request: Request) -> Response:
    """Remove a tag from a resource"""
    tag = request.path_params["tag"]

    def check(state: Any) -> dict[str, Any]:
        if tag not in state.tags:
            raise NeutronError("TagNotFound", 404, f"Tag {tag} could not be found.")
        return {"tags": [one for one in state.tags if one != tag]}

    await _change(request, check)
    return Response(status_code=204)


async def _change(request: Request, check: Any) -> None:
    kind = _kind(request)
    found = await access.find_own(request, kind)
    await services(request).commands.update(kind, found.id, {}, context(request), verb="tag", check=check)


def routes() -> list[BaseRoute]:
    found: list[BaseRoute] = []
    for collection in KINDS:
        base = f"/v2.0/{collection}/{{id}}/tags"
        found += [
            Route(base, list_tags, methods=["GET"]),
            Route(base, set_tags, methods=["PUT"]),
            Route(base, clear_tags, methods=["DELETE"]),
            Route(base + "/{tag}", has_tag, methods=["GET"]),
            Route(base + "/{tag}", add_tag, methods=["PUT"]),
            Route(base + "/{tag}", remove_tag, methods=["DELETE"]),
        ]
    return found
