"""/servers/{id}/os-volume_attachments: the volumes of a server."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

from api.compute.call import Call, Reply, empty, flag, reply
from api.compute.carry_out import carry_out, must_be_legal, state_comes_first
from api.compute.dispatch import Route
from api.compute.lookups import integer, server_of
from api.compute.schemas import attachments as schemas
from api.volumes_kept import kept, spec_of, spec_of_attached
from domain.block_devices import device_name, next_device
from domain.errors import Invalid, NotFound
from domain.resources import Volume
from domain.server import Server, VolumeAttachment
from domain.volumes import must_be_able_to_replace, must_be_detachable

NEWER = frozenset({"attachment_id", "bdm_uuid"})  # what 2.89 gave to those who read, and not to those who attach


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
    with state_comes_first(call, "attach-volume", server):
        volume = await _volume(call, wanted["volumeId"])
        if wanted.get("tag") and server.vm_state == "shelved_offloaded":
            raise Invalid("Tagged volume attachment is not supported for shelved-offloaded instances.")
    attachment = VolumeAttachment(
        id=str(uuid4()),
        volume_id=volume.id,
        device=device_name(wanted.get("device")) or next_device(server),
        delete_on_termination=flag(wanted.get("delete_on_termination", False)),
        tag=wanted.get("tag"),
    )
    commands = call.services.commands
    params = {
        "volume": spec_of(volume, call.services.settings.volumes_dir, attachment.device),
        "attachment_id": attachment.id,
        "delete_on_termination": attachment.delete_on_termination,
        "tag": attachment.tag,
    }
    must_be_legal(call, "attach-volume", server)
    if server.attachment(volume.id) is not None:
        raise Invalid(f"Invalid volume: volume '{volume.id}' is already attached to this server")
    async with kept(commands, volume.id, server.id, attachment.id, call.context):
        await carry_out(call, "attach-volume", server_id, params)
    shown = {name: value for name, value in _view(call, server, attachment).items() if name not in NEWER}
    return reply({"volumeAttachment": shown | {"id": volume.id}})


async def _volume(call: Call, volume_id: str) -> Volume:
    volume = await call.services.read.resource("volume", volume_id)
    if volume is None or volume.deleted or not (call.is_admin or volume.project_id == call.project_id):
        raise NotFound(f"Volume {volume_id} could not be found.")
    return cast("Volume", volume)


async def update(call: Call) -> Reply:
    """Another volumeId swaps the volume; from 2.85 on, with the same one, its delete_on_termination changes."""
    server_id, volume_id = call.params
    body = await call.object()
    schemas.UPDATE.check(call.version, body)
    wanted: dict[str, Any] = body["volumeAttachment"]
    if wanted["volumeId"] != volume_id:
        return await _swap(call, server_id, volume_id, wanted)
    if call.version < 85:
        raise Invalid(
            f"Invalid volume: volume {volume_id} cannot be swapped with itself", hint="Name another volumeId."
        )
    server = await server_of(call, server_id, "os_compute_api:os-volumes-attachments:update")
    attached = _attached(server, volume_id)
    for key, value in (("device", attached.device), ("tag", attached.tag), ("serverId", server.id)):
        if key in wanted and wanted[key] != value:
            raise Invalid(f"The {key} property is not mutable", hint="Only delete_on_termination can be changed.")
    goes = flag(wanted.get("delete_on_termination", attached.delete_on_termination))
    params = {"volume_id": volume_id, "delete_on_termination": goes}
    await carry_out(call, "update-volume-attachment", server_id, params)
    return empty(202)


async def _swap(call: Call, server_id: str, volume_id: str, wanted: dict[str, Any]) -> Reply:
    """For administrators and services: the guest goes on with a copy of its volume on the other one."""
    server = await server_of(call, server_id, "os_compute_api:os-volumes-attachments:swap")
    attached = _attached(server, volume_id)
    old, new = await _volume(call, volume_id), await _volume_named(call, wanted["volumeId"])
    must_be_legal(call, "swap-volume", server)
    must_be_able_to_replace(new, old)
    directory = call.services.settings.volumes_dir
    params = {"old": spec_of_attached(attached), "new": spec_of(new, directory, attached.device)}
    async with kept(call.services.commands, new.id, server.id, str(uuid4()), call.context):
        await carry_out(call, "swap-volume", server_id, params)
    return empty(202)


async def _volume_named(call: Call, volume_id: str) -> Volume:
    """What a body names and is not there is a bad request, as in Nova."""
    try:
        return await _volume(call, volume_id)
    except NotFound as error:
        raise Invalid(error.message) from error


async def delete(call: Call) -> Reply:
    server_id, volume_id = call.params
    server = await server_of(call, server_id, "os_compute_api:os-volumes-attachments:delete")
    if server.attachment(volume_id) is None:
        with state_comes_first(call, "detach-volume", server):
            await _volume(call, volume_id)
    attached = _attached(server, volume_id)
    must_be_legal(call, "detach-volume", server)
    volume = await call.services.commands.load("volume", volume_id)
    if isinstance(volume, Volume):
        must_be_detachable(volume)
    await carry_out(call, "detach-volume", server_id, {"volume_id": volume_id, "volume": spec_of_attached(attached)})
    return empty(202)


ROUTES = [
    Route("GET", "/servers/{}/os-volume_attachments", index),
    Route("POST", "/servers/{}/os-volume_attachments", create),
    Route("GET", "/servers/{}/os-volume_attachments/{}", show),
    Route("PUT", "/servers/{}/os-volume_attachments/{}", update),
    Route("DELETE", "/servers/{}/os-volume_attachments/{}", delete),
]
