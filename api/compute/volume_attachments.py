"""/servers/{id}/os-volume_attachments: the volumes of a server."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

from api.compute.call import Call, Reply, empty, flag, reply
from api.compute.carry_out import carry_out, must_be_legal
from api.compute.dispatch import Route
from api.compute.lookups import integer, server_of
from api.compute.schemas import attachments as schemas
from domain.errors import Conflict, Invalid, NotFound, NotImplementedHere, Rejected
from domain.resources import Volume
from domain.server import Server, VolumeAttachment


def _view(call: Call, server: Server, volume: VolumeAttachment) -> dict[str, Any]:
    version = call.version
    body: dict[str, Any] = {"serverId": server.id, "volumeId": volume.volume_id, "device": volume.device}
    if version < 89:
        body["id"] = volume.volume_id
    else:
        body["attachment_id"] = volume.id
        body["bdm_uuid"] = volume.id
    if version >= 70:
        body["tag"] = volume.tag
    if version >= 79:
        body["delete_on_termination"] = volume.delete_on_termination
    return body


async def index(call: Call) -> Reply:
    schemas.VOLUMES.check(call.version, call.query)
    server = await server_of(call, call.params[0], "os_compute_api:os-volumes-attachments:index")
    volumes = list(server.volumes)[integer(call, "offset", 0) :]
    limit = integer(call, "limit")
    if limit is not None:
        volumes = volumes[:limit]
    return reply({"volumeAttachments": [_view(call, server, one) for one in volumes]})


def _attached(server: Server, volume_id: str) -> VolumeAttachment:
    found = next((one for one in server.volumes if one.volume_id == volume_id), None)
    if found is None:
        raise NotFound(f"Instance {server.id} is not attached to volume {volume_id}")
    return found


async def show(call: Call) -> Reply:
    server_id, volume_id = call.params
    server = await server_of(call, server_id, "os_compute_api:os-volumes-attachments:show")
    return reply({"volumeAttachment": _view(call, server, _attached(server, volume_id))})


async def create(call: Call) -> Reply:
    server_id = call.params[0]
    body = await call.object()
    schemas.ATTACH.check(call.version, body)
    wanted: dict[str, Any] = body["volumeAttachment"]
    server = await server_of(call, server_id, "os_compute_api:os-volumes-attachments:create")
    volume = await _volume(call, wanted["volumeId"])
    attachment = VolumeAttachment(
        id=str(uuid4()),
        volume_id=volume.id,
        device=wanted.get("device") or _next_device(server),
        delete_on_termination=flag(wanted.get("delete_on_termination", False)),
        tag=wanted.get("tag"),
    )
    params = {
        "volume": _spec(call, volume, attachment.device),
        "attachment_id": attachment.id,
        "delete_on_termination": attachment.delete_on_termination,
        "tag": attachment.tag,
    }
    must_be_legal(call, "attach-volume", server)
    await _reserve(call, volume.id, server.id, attachment.id)
    try:
        await carry_out(call, "attach-volume", server_id, params)
    except Rejected as rejected:
        if rejected.code < 500:  # else it may have been accepted; the conductor frees a volume that nobody attaches
            await _set_status(call, volume.id, volume.status)
        raise
    return reply({"volumeAttachment": _view(call, server, attachment)})


async def _reserve(call: Call, volume_id: str, server_id: str, attachment_id: str) -> None:
    """Keep the volume for this server: of two who attach it at once, one is refused."""

    def free(state: Any) -> dict[str, Any]:
        if state.status != "available" and not (state.multiattach and state.status == "in-use"):
            raise Invalid(
                f"Invalid volume: status must be 'available'. Current status: '{state.status}'",
                hint="Detach it from the other server, or wait.",
            )
        if state.status != "available":
            return {}
        return {"status": "reserved", "reserved_for": server_id, "reservation": attachment_id}

    await call.services.commands.update("volume", volume_id, {}, call.context, verb="reserve", check=free)


async def _set_status(call: Call, volume_id: str, status: str) -> None:
    await call.services.commands.update("volume", volume_id, {"status": status}, call.context, verb="unreserve")


def _spec(call: Call, volume: Volume, device: str | None) -> dict[str, Any]:
    return {
        "id": volume.id,
        "path": str(call.services.settings.volumes_dir / volume.id),
        "disk_format": volume.disk_format,
        "device": device,
        "size_gb": volume.size_gb,
    }


def _next_device(server: Server) -> str:
    used = {volume.device for volume in server.volumes} | {server.root_device_name}
    return next(f"/dev/vd{letter}" for letter in "bcdefghijklmnopqrstuvwxyz" if f"/dev/vd{letter}" not in used)


async def _volume(call: Call, volume_id: str) -> Volume:
    volume = await call.services.read.resource("volume", volume_id)
    if volume is None or volume.deleted or not (call.is_admin or volume.project_id == call.project_id):
        raise NotFound(f"Volume {volume_id} could not be found.")
    return cast("Volume", volume)


async def update(call: Call) -> Reply:
    """From 2.85 on this changes whether the volume goes with the server; before, it swaps the volume."""
    server_id, volume_id = call.params
    body = await call.object()
    schemas.UPDATE.check(call.version, body)
    wanted: dict[str, Any] = body["volumeAttachment"]
    server = await server_of(call, server_id, "os_compute_api:os-volumes-attachments:update")
    attached = _attached(server, volume_id)
    if call.version < 85 or wanted["volumeId"] != volume_id:
        raise NotImplementedHere(
            "Swapping volumes is not supported.", hint="Detach the old volume and attach the new one."
        )
    for key, value in (("device", attached.device), ("tag", attached.tag), ("serverId", server.id)):
        if key in wanted and wanted[key] != value:
            raise Invalid(f"Field {key} cannot be changed.", hint="Only delete_on_termination can.")
    keep = flag(wanted.get("delete_on_termination", attached.delete_on_termination))
    params = {"volume_id": volume_id, "delete_on_termination": keep}
    await carry_out(call, "update-volume-attachment", server_id, params)
    return empty(202)


async def delete(call: Call) -> Reply:
    server_id, volume_id = call.params
    server = await server_of(call, server_id, "os_compute_api:os-volumes-attachments:delete")
    attached = _attached(server, volume_id)
    if attached.boot_index == 0:
        raise Conflict("Cannot detach a root device volume", code=403, reason="root_device")
    volume = {
        "id": attached.volume_id,
        "path": attached.path,
        "disk_format": attached.disk_format,
        "device": attached.device,
        "size_gb": attached.size_gb,
    }
    await carry_out(call, "detach-volume", server_id, {"volume_id": volume_id, "volume": volume})
    return empty(202)


ROUTES = [
    Route("GET", "/servers/{}/os-volume_attachments", index),
    Route("POST", "/servers/{}/os-volume_attachments", create),
    Route("GET", "/servers/{}/os-volume_attachments/{}", show),
    Route("PUT", "/servers/{}/os-volume_attachments/{}", update),
    Route("DELETE", "/servers/{}/os-volume_attachments/{}", delete),
]
