"""Sharing an image with single projects: its owner names them, each of them accepts or rejects."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json, caller, context, json_object, services, timestamp
from api.image.view import own_image, visible_image
from api.shapes import text
from commands.handler import Check
from domain import images
from domain.errors import Forbidden
from domain.resources import Image


def _view(image: Image, project_id: str, answer: str) -> dict[str, Any]:
    return {
        "image_id": image.id,
        "member_id": project_id,
        "status": answer,
        "created_at": timestamp(image.created_at),
        "updated_at": timestamp(image.updated_at),
        "schema": "/v2/schemas/member",
    }


def _seen(request: Request, image: Image) -> dict[str, str]:
    """Owners see all members, a member itself only."""
    who = caller(request)
    if who.is_admin or image.project_id == who.project_id:
        return dict(image.members)
    return {key: value for key, value in image.members.items() if key == who.project_id}


async def list_members(request: Request) -> Response:
    """The projects that an image is shared with"""
    image = await visible_image(request)
    views = [_view(image, key, answer) for key, answer in sorted(_seen(request, image).items())]
    return Json({"members": views, "schema": "/v2/schemas/members"})


async def show_member(request: Request) -> Response:
    """One project that an image is shared with"""
    image, project_id = await visible_image(request), request.path_params["member"]
    seen = _seen(request, image)
    if project_id not in seen:
        raise images.no_member(image, project_id)
    return Json(_view(image, project_id, seen[project_id]))


async def add_member(request: Request) -> Response:
    """Share an image with a project"""
    image = await own_image(request)
    project_id = text(await json_object(request), "member")
    updated = await _change(request, image, partial(images.share, project_id=project_id))
    return Json(_view(updated, project_id, "pending"))


async def answer(request: Request) -> Response:
    """Accept or reject an image, as the project that it is shared with"""
    image, project_id, who = await visible_image(request), request.path_params["member"], caller(request)
    if project_id != who.project_id and not who.is_admin:
        raise Forbidden("Only the project itself accepts or rejects an image")
    status = text(await json_object(request), "status")
    updated = await _change(request, image, partial(images.answer, project_id=project_id, status=status))
    return Json(_view(updated, project_id, status))


async def remove_member(request: Request) -> Response:
    """Stop sharing an image with a project"""
    image, project_id = await own_image(request), request.path_params["member"]
    await _change(request, image, partial(images.unshare, project_id=project_id))
    return Response(status_code=204)


async def _change(request: Request, image: Image, check: Check) -> Image:
    updated = await services(request).commands.update(
        "image", image.id, {}, context(request), verb="share", check=check
    )
    assert isinstance(updated, Image), "the command side answers with the kind that was asked for"
    return updated


def routes() -> list[BaseRoute]:
    return [
        Route("/v2/images/{id}/members", list_members, methods=["GET"]),
        Route("/v2/images/{id}/members", add_member, methods=["POST"]),
        Route("/v2/images/{id}/members/{member}", show_member, methods=["GET"]),
        Route("/v2/images/{id}/members/{member}", answer, methods=["PUT"]),
        Route("/v2/images/{id}/members/{member}", remove_member, methods=["DELETE"]),
    ]
