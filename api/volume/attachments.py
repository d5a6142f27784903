"""Attachments, as the volumes know them: for reading. The compute API attaches and detaches."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.http import Json
from api.listing import page
from api.volume.access import visible
from api.volume.paths import both
from domain.errors import NotFound, Rejected
from domain.resources import Volume


async def _views(request: Request) -> list[dict[str, Any]]:
    return [
        {
            "id": one["id"],
            "status": "attached",
            "instance": one["server_id"],
            "volume_id": volume.id,
            "attached_at": "",
            "detached_at": "",
            "attach_mode": "ro" if volume.readonly else "rw",
            "connection_info": {},
        }
        for volume in await visible(request, Volume)
        for one in volume.attachments
    ]


async def list_attachments(request: Request) -> Response:
    """Which server has which volume"""
    views = await _views(request)
    for key, param in (("volume_id", "volume_id"), ("instance", "instance_id"), ("status", "status")):
        wanted = request.query_params.get(param)
        views = [one for one in views if wanted in (None, one[key])]
    views, _ = page(request, views, default_sort=(("id", "asc"),))
    return Json({"attachments": views})


async def show_attachment(request: Request) -> Response:
    """One attachment"""
    for one in await _views(request):
        if one["id"] == request.path_params["id"]:
            return Json({"attachment": one})
    raise NotFound(f"Volume attachment could not be found with filter: id = {request.path_params['id']}.")


async def refused(request: Request) -> Response:
    """Refused: volumes are attached through the compute API"""
    raise Rejected(
        "Volumes are attached and detached through the compute API",
        code=400,
        reason="compute_only",
        hint="openstack server add volume SERVER VOLUME",
    )


def routes() -> list[BaseRoute]:
    return [
        *both("/attachments", list_attachments),
        *both("/attachments", refused, ["POST"]),
        *both("/attachments/detail", list_attachments),
        *both("/attachments/{id}", show_attachment),
        *both("/attachments/{id}", refused, ["PUT", "DELETE"]),
        *both("/attachments/{id}/action", refused, ["POST"]),
    ]
