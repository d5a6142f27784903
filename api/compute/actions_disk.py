"""Actions on a server's disk: rebuild, rescue, images, backups, shelving."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from api.compute import faults, passwords
from api.compute.action import Action
from api.compute.call import Call, Reply, empty, flag, reply
from api.compute.carry_out import carry_out, state_comes_first
from api.compute.images_made import carry_out_with_image
from api.compute.keys import public_key_of
from api.compute.lookups import full_view, image_of, server_of
from api.compute.policy import enforce
from api.compute.servers_view import hrefs, rebuilt, view_of
from api.root_volumes import rebuilt_volume
from domain.errors import Conflict, Invalid
from domain.resources import Image
from domain.server import Server

_TEXT_FIELDS = {"name": "name", "description": "description", "hostname": "hostname"}
_ADDRESSES = {"accessIPv4": "access_ip_v4", "accessIPv6": "access_ip_v6"}


def image_spec(image: Image) -> dict[str, Any]:
    return {"id": image.id, "properties": dict(image.properties)}


async def _rebuild(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    server = await server_of(call, server_id, "os_compute_api:servers:rebuild")
    with state_comes_first(call, "rebuild", server):
        image = await image_of(call, value["imageRef"])
        if image is None:
            raise Invalid("Cannot find image for rebuild", hint=f"There is no image {value['imageRef']}.")
        must_fit(image, server)
        if flag(value.get("preserve_ephemeral", False)):
            raise Invalid(
                "The current driver does not support preserving ephemeral partitions.",
                hint="The new disk begins empty: leave preserve_ephemeral out, and keep what is to last on a volume.",
            )
        params: dict[str, Any] = {"image": image_spec(image)}
        if server.volume_backed:
            params |= await rebuilt_volume(call.services, server, image, reimage=call.version >= 93)
    params |= {ours: value[theirs] for theirs, ours in (_TEXT_FIELDS | _ADDRESSES).items() if theirs in value}
    if "metadata" in value:
        params["metadata"] = value["metadata"]
    if "OS-DCF:diskConfig" in value:
        params["disk_config"] = value["OS-DCF:diskConfig"]
    if "key_name" in value:
        params["key_name"] = value["key_name"]
        params["public_key"] = None
        if value["key_name"] is not None:
            params["public_key"] = await public_key_of(call, value["key_name"], server.user_id)
    if "user_data" in value:
        params["user_data_id"] = await _kept(call, value["user_data"])
    password = passwords.given_or_new(value)
    params["admin_password"] = password
    answer = await carry_out(call, "rebuild", server_id, params)
    view = await full_view(call, [answer.server])
    shown = rebuilt(view, answer.server, password)
    return reply({"server": shown}, 202, location=hrefs(view, "servers", server_id)[0])


async def _kept(call: Call, user_data: str | None) -> str | None:
    """The id of the blob that holds this user data."""
    if user_data is None:
        return None
    blob_id = str(uuid5(NAMESPACE_OID, user_data))
    if await call.services.commands.load("blob", blob_id) is None:
        with suppress(Conflict):  # somebody else kept the same text just now
            await call.services.commands.create("blob", {"name": blob_id, "text": user_data}, call.context, id=blob_id)
    return blob_id


def must_fit(image: Image, server: Server) -> None:
    """Raise `Invalid` when the image is not usable, or needs more than the server's flavor has."""
    if image.status != "active":
        raise Invalid(f"Image {image.id} is not active.")
    flavor = server.flavor
    if flavor is None:
        return
    if "block_device_mapping" in image.properties:
        raise Invalid(
            f"Image {image.id} has no disk of its own: it was made of a volume-backed server.",
            hint="Create a new server from it.",
        )
    if image.min_ram > flavor.ram:
        raise Invalid("Flavor's memory is too small for requested image.")
    if flavor.disk and not server.volume_backed and image.min_disk > flavor.disk:
        raise faults.smaller_than_min_disk(flavor.disk, image.min_disk)


async def _rescue(call: Call, server_id: str, value: dict[str, Any] | None) -> Reply:
    wanted = value or {}
    password = passwords.given_or_new(wanted)
    server = await server_of(call, server_id, "os_compute_api:os-rescue")
    image_id = wanted.get("rescue_image_ref") or server.image_id
    with state_comes_first(call, "rescue", server):
        image = await image_of(call, image_id) if image_id else None
        if image is None and wanted.get("rescue_image_ref"):
            raise _no_rescue_image(image_id, "There is no such image.")
        if image is not None and image.status != "active":
            raise _no_rescue_image(image_id, f"It is {image.status}, not active.")
    spec = image_spec(image) if image is not None else {"id": image_id, "properties": {}}
    params = {"image": spec, "admin_password": password, "volume_backed": call.version >= 87}
    await carry_out(call, "rescue", server_id, params)
    return reply({"adminPass": password})


def _no_rescue_image(image_id: str | None, why: str) -> Invalid:
    return Invalid(f"Requested rescue image '{image_id}' is not supported", hint=why)


async def _create_image(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    params = {"name": value["name"], "metadata": value.get("metadata", {}), "properties": {}}
    await carry_out_with_image(call, "create-image", server_id, params, kind="snapshot", name=value["name"])
    return _image_answer(call, params)


async def _create_backup(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    params = {
        "name": value["name"],
        "backup_type": value["backup_type"],
        "rotation": int(value["rotation"]),
        "metadata": value.get("metadata", {}),
        "properties": {},
    }
    await carry_out_with_image(call, "create-backup", server_id, params, kind="backup", name=value["name"])
    return _image_answer(call, params)


def _image_answer(call: Call, params: dict[str, Any]) -> Reply:
    if call.version >= 45:
        return reply({"image_id": params["image_id"]}, 202)
    return empty(202, location=hrefs(view_of(call), "images", params["image_id"])[1])


async def _shelve(call: Call, server_id: str, value: Any) -> Reply:
    """Where the deployment says so (as Nova by default), the server leaves its host in the same action."""
    params = {"offload": call.services.commands.settings.shelved_offload}
    await carry_out_with_image(call, "shelve", server_id, params, kind="snapshot")
    return empty(202)


async def _unshelve(call: Call, server_id: str, value: Any) -> Reply:
    params: dict[str, Any] = {}
    if call.version >= 77 and isinstance(value, dict):
        params = {key: value[key] for key in ("availability_zone", "host") if key in value}
        server = await server_of(call, server_id)
        if "host" in params:
            enforce(call, "os_compute_api:os-shelve:unshelve_to_host", server.project_id)
        if params and server.vm_state == "shelved":
            raise Conflict(
                f'Specifying an availability zone when unshelving server {server_id} with status "shelved" is not '
                "supported. The server status must be SHELVED_OFFLOADED.",
                hint="Offload it first, or let it come back on its host.",
            )
    await carry_out(call, "unshelve", server_id, params)
    return empty(202)


ACTIONS: dict[str, Action] = {
    "rebuild": Action(_rebuild),
    "rescue": Action(_rescue),
    "createImage": Action(_create_image),
    "createBackup": Action(_create_backup),
    "shelve": Action(_shelve),
    "unshelve": Action(_unshelve),
}
