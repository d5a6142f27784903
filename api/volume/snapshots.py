"""Snapshots: flat copies of volumes. One that a server uses is copied by its host, as it is at one instant."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.http import Json, context, json_object, services, wrapped_object
from api.listing import page
from api.shapes import flag, string_mapping, text
from api.volume.access import find, moment, must_be_admin, must_be_member, visible, work
from api.volume.paths import VERSIONS, both
from api.volume.quotas import must_have_room
from commands import disks
from commands.handler import Check
from domain import volumes as rules
from domain.errors import Invalid, Rejected
from domain.resources import Volume, VolumeSnapshot

# The microversion from which a volume in use needs no force; and the one that the SDK, which leaves it out then, sends.
WITHOUT_FORCE, WITHOUT_FORCE_BY_SDK = (3, 66), (3, 65)


def snapshot_view(snapshot: VolumeSnapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "description": snapshot.description,
        "volume_id": snapshot.volume_id,
        "status": snapshot.status,
        "size": snapshot.size_gb,
        "metadata": snapshot.metadata,
        "created_at": moment(snapshot.created_at),
        "updated_at": moment(snapshot.updated_at),
        "user_id": snapshot.user_id,
        "group_snapshot_id": None,
        "consumes_quota": True,
        "os-extended-snapshot-attributes:project_id": snapshot.project_id,
        "os-extended-snapshot-attributes:progress": "100%" if snapshot.status == "available" else "0%",
    }


async def list_snapshots(request: Request) -> Response:
    """The project's snapshots, filtered by name, status, volume"""
    params = request.query_params
    views = [snapshot_view(one) for one in await visible(request, VolumeSnapshot)]
    for key in ("status", "volume_id"):
        if params.get(key):
            views = [one for one in views if one[key] == params[key]]
    views, _ = page(request, views)
    return Json({"snapshots": views})


async def show_snapshot(request: Request) -> Response:
    """One snapshot"""
    return Json({"snapshot": snapshot_view(await find(request, VolumeSnapshot))})


async def create_snapshot(request: Request) -> Response:
    """Copy a volume as it is now"""
    who = must_be_member(request)
    body = await wrapped_object(request, "snapshot")
    volume = await find(request, Volume, text(body, "volume_id"))
    version, force = VERSIONS.of(request), flag(body, "force", None)
    if force is False and version >= WITHOUT_FORCE:
        raise Invalid("Invalid input received: force may not be false from microversion 3.66 on", hint="Leave it out.")
    rules.must_be_copyable(volume, in_use=version >= WITHOUT_FORCE_BY_SDK if force is None else force)
    disks.must_be_installed()
    settings, path = services(request).settings, work(request).files.volume_path(volume.id)
    size = await asyncio.to_thread(lambda: path.stat().st_size if path.exists() else 0)
    await asyncio.to_thread(disks.must_have_space, settings.volumes_dir, size)
    await must_have_room(request, volume.project_id, snapshots=1, gigabytes=volume.size_gb)
    fields = {
        "name": text(body, "name", "") or "",
        "description": text(body, "description", None),
        "project_id": volume.project_id,
        "user_id": who.user_id,
        "volume_id": volume.id,
        "size_gb": volume.size_gb,
        "status": "creating",
        "metadata": string_mapping(body, "metadata", {}) or {},
    }
    if volume.attachments:
        fields["made_by"] = volume.attachments[0]["server_id"]
    created = cast(VolumeSnapshot, await services(request).commands.create("volume_snapshot", fields, context(request)))
    if created.made_by:
        await _copy_in_use(request, created)
    else:
        work(request).continue_snapshot(created)
    return Json({"snapshot": snapshot_view(created)}, status_code=202)


async def _copy_in_use(request: Request, snapshot: VolumeSnapshot) -> None:
    """Its server's host has the file open, so it does the work. A refusal leaves no snapshot."""
    path = work(request).files.snapshot_path(snapshot.id)
    wanted = {"snapshot_id": snapshot.id, "volume_id": snapshot.volume_id, "path": str(path)}
    commands, internal = services(request).commands, replace(context(request), internal=True)
    try:
        await commands.server("snapshot-volume", snapshot.made_by, {"snapshots": [wanted]}, internal)
    except Rejected as rejected:
        if rejected.code < 500:  # else it may have been accepted; the conductor sees to one that nobody fills
            await commands.delete("volume_snapshot", snapshot.id, context(request))
        raise


async def update_snapshot(request: Request) -> Response:
    """Change name, description or metadata"""
    must_be_member(request)
    snapshot = await find(request, VolumeSnapshot)
    body = await wrapped_object(request, "snapshot")
    changes: dict[str, Any] = {}
    if "name" in body:
        changes["name"] = text(body, "name", "") or ""
    if "description" in body:
        changes["description"] = text(body, "description", None)
    updated = await services(request).commands.update("volume_snapshot", snapshot.id, changes, context(request))
    return Json({"snapshot": snapshot_view(cast(VolumeSnapshot, updated))})


async def delete_snapshot(request: Request) -> Response:
    """Delete a snapshot"""
    must_be_member(request)
    await _start_delete(request, await find(request, VolumeSnapshot), force=False)
    return Response(status_code=202)


async def _start_delete(request: Request, snapshot: VolumeSnapshot, *, force: bool) -> None:
    begin = partial(rules.begin_delete_snapshot, force=force)
    marked = await _update(request, snapshot, "begin-delete", begin)
    work(request).continue_snapshot(marked)


async def _update(request: Request, snapshot: VolumeSnapshot, verb: str, check: Check) -> VolumeSnapshot:
    updated = await services(request).commands.update(
        "volume_snapshot", snapshot.id, {}, context(request), verb=verb, check=check
    )
    return cast(VolumeSnapshot, updated)


async def act(request: Request) -> Response:
    """What administrators do with a snapshot: set its status, delete it whatever its status is"""
    must_be_admin(request)
    snapshot, body = await find(request, VolumeSnapshot), await json_object(request)
    if "os-reset_status" in body:
        given = await wrapped_object(request, "os-reset_status")
        reset = partial(rules.reset_snapshot_status, status=text(given, "status") or "")
        await _update(request, snapshot, "reset-status", reset)
    elif "os-force_delete" in body:
        await _start_delete(request, snapshot, force=True)
    else:
        raise Invalid("There is no such action here", hint="os-reset_status, os-force_delete")
    return Response(status_code=202)


async def show_metadata(request: Request) -> Response:
    """A snapshot's metadata"""
    return Json({"metadata": (await find(request, VolumeSnapshot)).metadata})


async def change_metadata(request: Request) -> Response:
    """Replace (PUT) or add to (POST) a snapshot's metadata"""
    must_be_member(request)
    snapshot = await find(request, VolumeSnapshot)
    given = string_mapping(await json_object(request), "metadata")
    add = partial(rules.add_metadata, given=given, replace=request.method == "PUT")
    return Json({"metadata": (await _update(request, snapshot, "update", add)).metadata})


async def delete_metadata(request: Request) -> Response:
    """Remove one entry of a snapshot's metadata"""
    must_be_member(request)
    snapshot, key = await find(request, VolumeSnapshot), request.path_params["key"]
    await _update(request, snapshot, "update", partial(rules.remove_metadata, key=key))
    return Response(status_code=200)


def routes() -> list[BaseRoute]:
    return [
        *both("/snapshots", list_snapshots),
        *both("/snapshots", create_snapshot, ["POST"]),
        *both("/snapshots/detail", list_snapshots),
        *both("/snapshots/{id}", show_snapshot),
        *both("/snapshots/{id}", update_snapshot, ["PUT"]),
        *both("/snapshots/{id}", delete_snapshot, ["DELETE"]),
        *both("/snapshots/{id}/action", act, ["POST"]),
        *both("/snapshots/{id}/metadata", show_metadata),
        *both("/snapshots/{id}/metadata", change_metadata, ["POST", "PUT"]),
        *both("/snapshots/{id}/metadata/{key}", delete_metadata, ["DELETE"]),
    ]
