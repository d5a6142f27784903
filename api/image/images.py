"""Images: list, show, create, change by JSON patch, delete."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json, caller, context, json_body, json_object, services
from api.image import store
from api.image.fields import checked, properties
from api.image.filters import fits
from api.image.patch import patched
from api.image.view import image_view, may_see, must_be_member, own_image, visible_image
from api.listing import living, page
from commands.handler import Check
from domain import images
from domain.errors import Forbidden, Invalid
from domain.resources import Image, Resource

PATCH_TYPES = (
    "application/openstack-images-v2.1-json-patch",
    "application/openstack-images-v2.0-json-patch",
    "application/json-patch+json",
)


async def list_images(request: Request) -> Response:
    """Images that the caller sees, filtered by any field or property"""
    who, params = caller(request), request.query_params
    filters: dict[str, Any] = {}
    if params.get("name") and not params["name"].startswith(("in:", "eq:", "neq:")):
        filters["name"] = params["name"]
    found = await living(request, "image", **filters)
    views = [image_view(one) for one in found if isinstance(one, Image) and may_see(who, one) and fits(one, request)]
    views, marker = page(request, views)
    body: dict[str, Any] = {"images": views, "schema": "/v2/schemas/images", "first": _link(request, None)}
    if marker is not None:
        body["next"] = _link(request, marker)
    return Json(body)


def _link(request: Request, marker: str | None) -> str:
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key != "marker"]
    pairs += [("marker", marker)] if marker else []
    return "/v2/images" + (f"?{urlencode(pairs)}" if pairs else "")


async def show_image(request: Request) -> Response:
    """One image"""
    return Json(image_view(await visible_image(request)))


async def create_image(request: Request) -> Response:
    """Register an image; its data follows"""
    who = caller(request)
    must_be_member(who)
    body = await json_object(request)
    chosen = body.pop("id", None)  # whoever makes an image may choose its id; nobody changes it
    fields = {"visibility": "shared", "project_id": who.project_id} | checked(body, who)
    created = await services(request).commands.create(
        "image",
        fields | {"status": "queued", "properties": properties(body), "owner_user_id": who.user_id},
        context(request),
        id=_id(chosen),
    )
    image = _image(created)
    return Json(image_view(image), status_code=201, headers={"Location": f"/v2/images/{image.id}"})


def _id(wanted: Any) -> str:
    if wanted is None:
        return str(uuid4())
    try:
        return str(UUID(wanted))
    except (ValueError, AttributeError, TypeError) as error:
        raise Invalid(f"Invalid image id format: {wanted!r}", hint="Use a UUID, or leave it out") from error


async def update_image(request: Request) -> Response:
    """Change fields and properties by JSON patch"""
    image, who = await own_image(request), caller(request)
    operations = await json_body(request, *PATCH_TYPES)

    def check(state: Image) -> dict[str, Any]:
        return patched(state, operations, who)

    updated = await services(request).commands.update("image", image.id, {}, context(request), check=check)
    return Json(image_view(_image(updated)))


async def delete_image(request: Request) -> Response:
    """Delete an image and its data"""
    image = await own_image(request)
    await services(request).commands.delete("image", image.id, context(request), check=images.delete)
    await asyncio.to_thread(store.remove, services(request).settings.images_dir, image.id)
    return Response(status_code=204)


async def deactivate(request: Request) -> Response:
    """Keep an image from being downloaded and booted"""
    return await _switch(request, "deactivate", images.deactivate)


async def reactivate(request: Request) -> Response:
    """Let a deactivated image be used again"""
    return await _switch(request, "reactivate", images.reactivate)


async def _switch(request: Request, verb: str, check: Check) -> Response:
    image = await own_image(request)
    if not caller(request).is_admin:
        raise Forbidden("You are not authorized to complete this action", hint="It needs the role admin")
    await services(request).commands.update("image", image.id, {}, context(request), verb=verb, check=check)
    return Response(status_code=204)


async def add_tag(request: Request) -> Response:
    """Add a tag"""
    return await _tag(request, partial(images.add_tag, tag=request.path_params["tag"]))


async def remove_tag(request: Request) -> Response:
    """Remove a tag"""
    return await _tag(request, partial(images.remove_tag, tag=request.path_params["tag"]))


async def _tag(request: Request, check: Check) -> Response:
    image = await own_image(request)
    await services(request).commands.update("image", image.id, {}, context(request), verb="tag", check=check)
    return Response(status_code=204)


def _image(resource: Resource) -> Image:
    assert isinstance(resource, Image), "the command side answers with the kind that was asked for"
    return resource


def routes() -> list[BaseRoute]:
    return [
        Route("/v2/images", list_images, methods=["GET"]),
        Route("/v2/images", create_image, methods=["POST"]),
        Route("/v2/images/{id}", show_image, methods=["GET"]),
        Route("/v2/images/{id}", update_image, methods=["PATCH"]),
        Route("/v2/images/{id}", delete_image, methods=["DELETE"]),
        Route("/v2/images/{id}/actions/deactivate", deactivate, methods=["POST"]),
        Route("/v2/images/{id}/actions/reactivate", reactivate, methods=["POST"]),
        Route("/v2/images/{id}/tags/{tag}", add_tag, methods=["PUT"]),
        Route("/v2/images/{id}/tags/{tag}", remove_tag, methods=["DELETE"]),
    ]
