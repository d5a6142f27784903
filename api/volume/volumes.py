"""Volumes: list, show, create, change, delete, and their metadata."""

from __future__ import annotations

import ast
import asyncio
from functools import partial
from typing import Any, cast
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.http import Json, boolean, caller, context, json_object, services, wrapped_object
from api.image.view import may_see
from api.links import base_url
from api.listing import page
from api.shapes import flag, number, string_mapping, text
from api.volume.access import find, moment, must_be_member, visible, work
from api.volume.fixed import TYPE, TYPE_ID, ZONE
from api.volume.paths import both
from api.volume.quotas import must_have_room
from commands import disks
from commands.volume_files import least_gb, of_image
from domain import volumes as rules
from domain.errors import Invalid, NotFound
from domain.resources import Image, Volume, VolumeSnapshot
from domain.volumes import MOST_GIB


def volume_view(request: Request, volume: Volume) -> dict[str, Any]:
    link = f"{base_url(request)}/volume/v3/volumes/{volume.id}"
    view: dict[str, Any] = {
        "id": volume.id,
        "name": volume.name,
        "description": volume.description,
        "status": volume.status,
        "size": volume.size_gb,
        "bootable": "true" if volume.bootable else "false",
        "encrypted": False,
        "multiattach": volume.multiattach,
        "availability_zone": volume.availability_zone,
        "created_at": moment(volume.created_at),
        "updated_at": moment(volume.updated_at),
        "volume_type": volume.volume_type,
        "volume_type_id": TYPE_ID,
        "snapshot_id": volume.snapshot_id,
        "source_volid": volume.source_volume_id,
        "metadata": volume.metadata | ({"readonly": "True"} if volume.readonly else {}),
        "user_id": volume.user_id,
        "attachments": list(volume.attachments),
        "links": [{"rel": "self", "href": link}, {"rel": "bookmark", "href": link}],
        "consistencygroup_id": None,
        "group_id": None,
        "replication_status": None,
        "consumes_quota": True,
        "os-vol-tenant-attr:tenant_id": volume.project_id,
    }
    if volume.image_metadata:
        view["volume_image_metadata"] = volume.image_metadata
    if caller(request).is_admin:
        view |= {"os-vol-host-attr:host": "chronova", "os-vol-mig-status-attr:migstat": None}
    return view


async def _listed(request: Request) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The page of volumes, and the links to the next one."""
    params = request.query_params
    views = [volume_view(request, one) for one in await visible(request, Volume)]
    for key in ("status", "availability_zone", "volume_type"):
        if params.get(key):
            views = [one for one in views if str(one[key]).lower() == params[key].lower()]
    if params.get("bootable"):
        views = [one for one in views if boolean(one["bootable"]) == boolean(params["bootable"])]
    if params.get("metadata"):
        wanted = _literal(params["metadata"])
        views = [one for one in views if wanted.items() <= one["metadata"].items()]
    views, marker = page(request, views)
    if marker is None:
        return views, []
    pairs = [(key, value) for key, value in params.multi_items() if key != "marker"]
    href = f"{base_url(request)}{request.url.path}?{urlencode([*pairs, ('marker', marker)])}"
    return views, [{"rel": "next", "href": href}]


def _literal(given: str) -> dict[str, str]:
    """`{'key': 'value'}`: clients send a Python or JSON literal."""
    try:
        found = ast.literal_eval(given)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise Invalid("metadata has to be an object such as {'key': 'value'}") from error
    if not isinstance(found, dict):
        raise Invalid("metadata has to be an object such as {'key': 'value'}")
    return {str(key): str(value) for key, value in found.items()}


async def list_volumes(request: Request) -> Response:
    """Names and ids of the project's volumes"""
    views, links = await _listed(request)
    short = [{key: one[key] for key in ("id", "name", "links")} for one in views]
    return Json({"volumes": short} | ({"volumes_links": links} if links else {}))


async def list_details(request: Request) -> Response:
    """The project's volumes"""
    views, links = await _listed(request)
    return Json({"volumes": views} | ({"volumes_links": links} if links else {}))


async def summary(request: Request) -> Response:
    """How many volumes there are and how large they are together"""
    found = await visible(request, Volume)
    total = {"total_count": len(found), "total_size": sum(one.size_gb for one in found), "metadata": {}}
    return Json({"volume-summary": total})


async def show_volume(request: Request) -> Response:
    """One volume"""
    return Json({"volume": volume_view(request, await find(request, Volume))})


async def create_volume(request: Request) -> Response:
    """Create a volume: empty, or a copy of an image, a snapshot or another volume"""
    who = must_be_member(request)
    body = await wrapped_object(request, "volume")
    given = body.get("size")
    size = number(body, "size", least=1, most=MOST_GIB) if given is not None else 0
    type_ = text(body, "volume_type", None)
    if type_ not in (None, "", TYPE, TYPE_ID, "__DEFAULT__"):
        raise NotFound(f"Volume type with name {type_} could not be found.")
    zone = text(body, "availability_zone", None)
    if zone not in (None, "", ZONE):
        raise Invalid(f"Availability zone '{zone}' is invalid.", hint=f"Volumes are in {ZONE}")
    if flag(body, "multiattach", False):
        raise Invalid(
            "Volumes that several servers share (multiattach) are not offered here",
            hint="Make a volume for each server; a snapshot gives them the same content.",
        )
    source = await _source(request, body, size)
    size = size or source.pop("least_gb", 0)
    source.pop("least_gb", None)
    if size < 1:
        raise Invalid("Invalid input received: 'size' parameter must be between 1 and 16384", hint="Give a size in GiB")
    fields = {
        "name": text(body, "name", "") or "",
        "description": text(body, "description", None),
        "project_id": who.project_id,
        "user_id": who.user_id,
        "size_gb": size,
        "status": "creating",
        "metadata": string_mapping(body, "metadata", {}) or {},
        "availability_zone": ZONE,
        "disk_format": disks.disk_format(),
        **source,
    }
    await must_have_room(request, who.project_id, volumes=1, gigabytes=size)
    created = cast(Volume, await services(request).commands.create("volume", fields, context(request)))
    await work(request).continue_volume(created)
    return Json({"volume": volume_view(request, created)}, status_code=202)


async def _source(request: Request, body: dict[str, Any], size: int) -> dict[str, Any]:
    """The fields that name what a volume is a copy of, and `least_gb`, how large it has to be."""
    image_id = text(body, "imageRef", None)
    snapshot_id = text(body, "snapshot_id", None)
    volume_id = text(body, "source_volid", None)
    if sum(1 for one in (image_id, snapshot_id, volume_id) if one) > 1:
        raise Invalid("A volume is a copy of one thing: imageRef, snapshot_id or source_volid")
    if not (image_id or snapshot_id or volume_id):
        return {}
    disks.must_be_installed()
    if image_id:
        fields = await _of_image(request, image_id)
    elif snapshot_id:
        snapshot = await find(request, VolumeSnapshot, snapshot_id)
        if snapshot.status != "available":
            raise Invalid(f"Invalid snapshot: its status is {snapshot.status}, it has to be available")
        original = await services(request).read.resource("volume", snapshot.volume_id)
        bootable = isinstance(original, Volume) and original.bootable
        fields = {"snapshot_id": snapshot.id, "bootable": bootable, "least_gb": snapshot.size_gb}
    else:
        volume = await find(request, Volume, volume_id)
        if volume.status != "available":
            raise Invalid(f"Invalid volume: its status is {volume.status}, it has to be available")
        fields = {"source_volume_id": volume.id, "bootable": volume.bootable, "least_gb": volume.size_gb}
        fields["image_metadata"] = volume.image_metadata
    if size and size < fields["least_gb"]:
        raise Invalid(f"Invalid input received: the volume has to have at least {fields['least_gb']} GB")
    return fields


async def _of_image(request: Request, image_id: str) -> dict[str, Any]:
    image = await services(request).read.resource("image", image_id)
    if not isinstance(image, Image) or image.deleted or not may_see(caller(request), image):
        raise Invalid(f"Invalid imageRef provided: image {image_id} could not be found.")
    if image.status != "active" or image.disk_format not in ("qcow2", "raw"):
        raise Invalid(f"Image {image_id} cannot become a volume", hint="It has to be active, and qcow2 or raw")
    settings, needed = services(request).settings, image.size or 0
    await asyncio.to_thread(disks.must_have_space, settings.volumes_dir, needed)
    return of_image(image) | {"least_gb": least_gb(image)}


async def update_volume(request: Request) -> Response:
    """Change name, description or metadata"""
    must_be_member(request)
    volume = await find(request, Volume)
    body = await wrapped_object(request, "volume")
    changes: dict[str, Any] = {}
    if "name" in body:
        changes["name"] = text(body, "name", "") or ""
    if "description" in body:
        changes["description"] = text(body, "description", None)
    if "metadata" in body:
        changes["metadata"] = string_mapping(body, "metadata")
    updated = await services(request).commands.update("volume", volume.id, changes, context(request))
    return Json({"volume": volume_view(request, cast(Volume, updated))})


async def delete_volume(request: Request) -> Response:
    """Delete a volume that no server uses; with cascade its snapshots too"""
    must_be_member(request)
    volume = await find(request, Volume)
    cascade = boolean(request.query_params.get("cascade") or "false")
    await start_delete(request, volume, cascade=cascade, force=boolean(request.query_params.get("force") or "false"))
    return Response(status_code=202)


async def start_delete(request: Request, volume: Volume, *, cascade: bool, force: bool) -> None:
    known = services(request)
    snapshots = await known.read.resources("volume_snapshot", where={"volume_id": volume.id})
    if snapshots and not cascade:
        raise Invalid(
            f"Invalid volume: volume {volume.id} has {len(snapshots)} snapshots", hint="Delete them, or use --purge"
        )

    begin = partial(rules.begin_delete, force=force)
    updated = await known.commands.update("volume", volume.id, {}, context(request), verb="begin-delete", check=begin)
    for snapshot in snapshots:
        marked = await known.commands.update(
            "volume_snapshot", snapshot.id, {"status": "deleting"}, context(request), verb="begin-delete"
        )
        work(request).continue_snapshot(cast(VolumeSnapshot, marked))
    await work(request).continue_volume(cast(Volume, updated))


async def show_metadata(request: Request) -> Response:
    """A volume's metadata"""
    return Json({"metadata": (await find(request, Volume)).metadata})


async def change_metadata(request: Request) -> Response:
    """Replace (PUT) or add to (POST) a volume's metadata"""
    must_be_member(request)
    volume = await find(request, Volume)
    given = string_mapping(await json_object(request), "metadata")

    check = partial(rules.add_metadata, given=given, replace=request.method == "PUT")
    updated = await services(request).commands.update("volume", volume.id, {}, context(request), check=check)
    return Json({"metadata": cast(Volume, updated).metadata})


async def delete_metadata(request: Request) -> Response:
    """Remove one entry of a volume's metadata"""
    must_be_member(request)
    volume, key = await find(request, Volume), request.path_params["key"]

    check = partial(rules.remove_metadata, key=key)
    await services(request).commands.update("volume", volume.id, {}, context(request), check=check)
    return Response(status_code=200)


def routes() -> list[BaseRoute]:
    return [
        *both("/volumes", list_volumes),
        *both("/volumes", create_volume, ["POST"]),
        *both("/volumes/detail", list_details),
        *both("/volumes/summary", summary),
        *both("/volumes/{id}", show_volume),
        *both("/volumes/{id}", update_volume, ["PUT"]),
        *both("/volumes/{id}", delete_volume, ["DELETE"]),
        *both("/volumes/{id}/metadata", show_metadata),
        *both("/volumes/{id}/metadata", change_metadata, ["POST", "PUT"]),
        *both("/volumes/{id}/metadata/{key}", delete_metadata, ["DELETE"]),
    ]
