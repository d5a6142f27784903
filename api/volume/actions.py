"""`POST volumes/{id}/action`: what can be done with a volume.

Attaching and detaching belong to the compute API, which keeps the volume's state right from its own events; the calls
that Nova would make of Cinder for it (os-attach, os-detach, os-reserve, ...) are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.http import Json, caller, context, json_object, services
from api.image.fields import CONTAINER_FORMATS
from api.shapes import flag, name, number, string_mapping, text
from api.volume.access import find, moment, must_be_admin, must_be_member, work
from api.volume.fixed import TYPE, TYPE_ID
from api.volume.paths import both
from api.volume.quotas import must_have_room
from api.volume.volumes import start_delete
from commands import disks
from domain import volumes as rules
from domain.errors import Invalid, Rejected
from domain.resources import Volume, VolumeSnapshot

_ACCEPTED = 202


async def action(request: Request) -> Response:
    """Do something with a volume: extend it, upload it as an image, set flags, revert to a snapshot"""
    must_be_member(request)
    volume = await find(request, Volume)
    body = await json_object(request)
    if len(body) != 1:
        raise Invalid("The body has to hold one action")
    ((verb, arguments),) = body.items()
    do = _ACTIONS.get(verb)
    if do is None:
        raise Rejected(f"There is no action {verb} here", code=400, reason="invalid", hint=", ".join(sorted(_ACTIONS)))
    return await do(request, volume, arguments if isinstance(arguments, dict) else {})


async def _update(request: Request, volume: Volume, changes: dict[str, Any], verb: str, check: Any = None) -> Volume:
    updated = await services(request).commands.update(
        "volume", volume.id, changes, context(request), verb=verb, check=check
    )
    return cast(Volume, updated)


async def _extend(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    size = number(body, "new_size", least=1, most=rules.MOST_GIB)
    begin = partial(rules.begin_extend, size_gb=size)
    begin(volume)
    await must_have_room(request, volume.project_id, gigabytes=size - volume.size_gb)
    with work(request).hold(volume.id):
        begun = await _update(request, volume, {}, "begin-extend", begin)
        if begun.attachments:
            await _extend_in_use(request, begun, size)
        else:
            await _extend_unused(request, begun, size)
    return Response(status_code=_ACCEPTED)


async def _extend_unused(request: Request, volume: Volume, size_gb: int) -> None:
    try:
        await disks.grow(work(request).files.volume_path(volume.id), volume.disk_format, size_gb)
    except (disks.DiskFailed, OSError) as error:
        await _update(request, volume, {"status": "error_extending", "fault": str(error)}, "fail")
        raise Invalid(f"The volume could not be extended: {error}") from error
    await _update(request, volume, {}, "extend", partial(rules.extended, size_gb=size_gb))


async def _extend_in_use(request: Request, volume: Volume, size_gb: int) -> None:
    """Its server's host has the file open, so it does the work, and the guest sees it."""
    server_id = volume.attachments[0]["server_id"]
    path = work(request).files.volume_path(volume.id)
    spec = {"id": volume.id, "path": str(path), "disk_format": volume.disk_format, "size_gb": volume.size_gb}
    params = {"volume": spec, "size_gb": size_gb}
    internal = replace(context(request), internal=True)
    try:
        await services(request).commands.server("extend-volume", server_id, params, internal)
    except Rejected:
        await _update(request, volume, {}, "fail-extend", rules.not_extended)
        raise


async def _set_bootable(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    await _update(request, volume, {"bootable": flag(body, "bootable")}, "set-bootable")
    return Response(status_code=200)


async def _readonly(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    await _update(request, volume, {"readonly": flag(body, "readonly")}, "set-readonly")
    return Response(status_code=_ACCEPTED)


async def _reset_status(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    must_be_admin(request)
    status = text(body, "status", volume.status) or volume.status
    detached = body.get("attach_status") == "detached"
    await _update(request, volume, {}, "reset-status", partial(rules.reset_status, status=status, detached=detached))
    return Response(status_code=_ACCEPTED)


async def _force_delete(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    must_be_admin(request)
    await start_delete(request, volume, cascade=False, force=True)
    return Response(status_code=_ACCEPTED)


async def _set_image_metadata(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    given = string_mapping(body, "metadata")
    add = partial(rules.add_image_metadata, given=given)
    updated = await _update(request, volume, {}, "set-image-metadata", add)
    return Json({"metadata": updated.image_metadata})


async def _unset_image_metadata(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    remove = partial(rules.remove_image_metadata, key=text(body, "key"))
    await _update(request, volume, {}, "unset-image-metadata", remove)
    return Response(status_code=200)


async def _show_image_metadata(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    return Json({"metadata": volume.image_metadata})


async def _upload_image(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    disks.must_be_installed()
    container = text(body, "container_format", "bare")
    if container not in CONTAINER_FORMATS or text(body, "disk_format", "qcow2") not in ("qcow2", "raw"):
        raise Invalid("A volume becomes an image with disk_format qcow2")
    fields = {
        "name": name(body, "image_name"),
        "project_id": caller(request).project_id,
        "owner_user_id": caller(request).user_id,
        "status": "saving",
        "volume_id": volume.id,
        "visibility": "private" if body.get("visibility") == "private" else "shared",
        "disk_format": "qcow2",
        "container_format": container,
        "min_disk": volume.size_gb,
    }
    begin = partial(rules.begin_work, status="uploading")
    begin(volume)
    with ExitStack() as held:
        held.enter_context(work(request).hold(volume.id))
        begun = await _update(request, volume, {}, "begin-upload", begin)
        try:
            image = await services(request).commands.create("image", fields, context(request))
        except BaseException:
            work(request).give_up(volume.id, held.pop_all())
            raise
        work(request).upload(begun, image.id, held.pop_all())
    told = {
        "id": volume.id,
        "updated_at": moment(begun.updated_at),
        "status": "uploading",
        "display_description": volume.description,
        "size": volume.size_gb,
        "volume_type": {"id": TYPE_ID, "name": TYPE},
        "image_id": image.id,
        "container_format": container,
        "disk_format": "qcow2",
        "image_name": fields["name"],
        "visibility": fields["visibility"],
        "protected": False,
    }
    return Json({"os-volume_upload_image": told}, status_code=_ACCEPTED)


async def _revert(request: Request, volume: Volume, body: dict[str, Any]) -> Response:
    snapshot = await find(request, VolumeSnapshot, text(body, "snapshot_id"))
    begin = partial(rules.revert, snapshot=snapshot)
    begin(volume)
    with ExitStack() as held:
        held.enter_context(work(request).hold(volume.id))
        begun = await _update(request, volume, {}, "begin-revert", begin)
        work(request).revert(begun, snapshot, held.pop_all())
    return Response(status_code=_ACCEPTED)


_ACTIONS: dict[str, Callable[[Request, Volume, dict[str, Any]], Awaitable[Response]]] = {
    "os-extend": _extend,
    "os-set_bootable": _set_bootable,
    "os-update_readonly_flag": _readonly,
    "os-reset_status": _reset_status,
    "os-force_delete": _force_delete,
    "os-set_image_metadata": _set_image_metadata,
    "os-unset_image_metadata": _unset_image_metadata,
    "os-show_image_metadata": _show_image_metadata,
    "os-volume_upload_image": _upload_image,
    "revert": _revert,
}


def routes() -> list[BaseRoute]:
    return both("/volumes/{id}/action", action, ["POST"])
