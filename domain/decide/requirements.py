"""What a command needs beyond its guard, and what accepting it changes beyond its task_state."""

from __future__ import annotations

from typing import Any

import msgspec

from domain.decide.context import Context
from domain.errors import Conflict, Invalid, NotFound
from domain.image_properties import must_be_served
from domain.machine import MACHINE
from domain.machine.refusal import host_down
from domain.server import Server, VolumeAttachment


def nothing(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    return {}


def _rebuild_changes(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    if not server.volume_backed:  # whose image stays empty: that is how everybody knows it as one
        patch["image_id"] = params["image"]["id"]
    if not server.volume_backed or params.get("reimage"):
        patch["image_properties"] = params["image"].get("properties", {})
    for key in ("name", "metadata", "description", "key_name", "public_key", "user_data_id", "hostname"):
        if key in params:
            patch[key] = params[key]
    return patch


def _unshelve_changes(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    if params.get("availability_zone"):
        patch["pinned_availability_zone"] = params["availability_zone"]
    if "host" in params:
        patch["forced_host"] = params["host"]
    return patch


def _attach_changes(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    """The attachment is listed from now on, as in Nova, so that a delete in between knows of it."""
    volume = params["volume"]
    attachment = VolumeAttachment(
        id=params["attachment_id"],
        volume_id=volume["id"],
        device=volume.get("device"),
        delete_on_termination=bool(params.get("delete_on_termination")),
        tag=params.get("tag"),
        path=volume["path"],
        disk_format=volume.get("disk_format", "raw"),
        size_gb=volume.get("size_gb", 0),
    )
    return {"volumes": (*server.volumes, attachment)}


def _swap_changes(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    old, new = params["old"]["id"], params["new"]["id"]
    marked = (msgspec.structs.replace(one, replaced_by=new if one.volume_id == old else None) for one in server.volumes)
    return {"volumes": tuple(marked)}


def _settle_changes(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"owed": tuple(msgspec.structs.replace(one, tries=one.tries + 1) for one in server.owed)}


ON_ACCEPT: dict[str, Any] = {
    "rebuild": _rebuild_changes,
    "unshelve": _unshelve_changes,
    "attach-volume": _attach_changes,
    "swap-volume": _swap_changes,
    "settle": _settle_changes,
}


def _check_resize(server: Server, params: dict[str, Any], context: Context) -> None:
    assert server.flavor is not None
    flavor = params["flavor"]
    if flavor["id"] == server.flavor.id:
        raise Invalid("When resizing, instances must change flavor!", hint="Choose another flavor.")
    if flavor["disk"] < server.flavor.disk and server.image_id:
        raise Invalid(
            "Flavor's disk is too small for requested image.",
            hint=f"The disk has {server.flavor.disk} GB and cannot shrink to {flavor['disk']} GB.",
        )


NEEDS_ITS_HOST = frozenset({"confirm-resize", "detach-volume"})


def host_must_answer(server: Server, command: str, context: Context) -> None:
    """No guard of the machine, for Nova looks at it after the states and only where the server is on a host."""
    if command in NEEDS_ITS_HOST and server.host is not None and not context.host_up:
        down = host_down(MACHINE.rule(command))
        raise Conflict(down.text(server.id), hint=down.hint, reason=down.reason)


def _check_confirm_resize(server: Server, params: dict[str, Any], context: Context) -> None:
    host_must_answer(server, "confirm-resize", context)


def _check_unshelve(server: Server, params: dict[str, Any], context: Context) -> None:
    if (params.get("availability_zone") or params.get("host")) and server.vm_state != "shelved_offloaded":
        raise Conflict(
            f"Cannot 'unshelve' instance {server.id} while it is in vm_state {server.vm_state}",
            hint="A zone or host can be chosen only for a server that is shelved_offloaded.",
        )


def _check_detach_interface(server: Server, params: dict[str, Any], context: Context) -> None:
    if all(interface.port_id != params["port_id"] for interface in server.interfaces):
        raise NotFound(f"Port {params['port_id']} not found.", hint="The server's os-interface lists its ports.")


def _check_attach_volume(server: Server, params: dict[str, Any], context: Context) -> None:
    volume_id = params["volume"]["id"]
    if any(attachment.volume_id == volume_id for attachment in server.volumes):
        raise Invalid(
            f"Invalid volume: volume '{volume_id}' is already attached to this server", hint="There is nothing to do."
        )
    device = params["volume"].get("device")
    taken = {attachment.device for attachment in server.volumes} | {server.root_device_name}
    if device and device in taken:
        raise Conflict(
            f"The supplied device path ({device}) is in use.", hint="Name another device, or none.", reason="device"
        )


def _check_detach_volume(server: Server, params: dict[str, Any], context: Context) -> None:
    attachment = _attached(server, params["volume_id"])
    if attachment.boot_index == 0:
        raise Invalid(
            "Cannot detach a root device volume",
            hint="Delete the server; its volume stays unless it goes with the server.",
            reason="root_device",
        )
    host_must_answer(server, "detach-volume", context)


def _attached(server: Server, volume_id: str) -> VolumeAttachment:
    found = server.attachment(volume_id)
    if found is None:
        raise NotFound(
            f"Instance {server.id} is not attached to volume {volume_id}",
            hint="The server's os-volume_attachments lists its volumes.",
        )
    return found


def _check_swap_volume(server: Server, params: dict[str, Any], context: Context) -> None:
    _attached(server, params["old"]["id"])
    if server.attachment(params["new"]["id"]) is not None:
        raise Invalid(
            f"Invalid volume: volume '{params['new']['id']}' is already attached to this server",
            hint="Name one that is available.",
        )


def _check_extend_volume(server: Server, params: dict[str, Any], context: Context) -> None:
    _attached(server, params["volume"]["id"])


def _check_snapshot_volume(server: Server, params: dict[str, Any], context: Context) -> None:
    for one in params["snapshots"]:
        _attached(server, one["volume_id"])


STABLE_RESCUE = ("hw_rescue_device", "hw_rescue_bus")
"""Image properties that say how a rescue disk is put beside a server's own disks instead of in front of them."""


def _check_rescue(server: Server, params: dict[str, Any], context: Context) -> None:
    must_be_served(params["image"].get("properties", {}))
    if not server.volume_backed:
        return
    properties = params["image"].get("properties", {})
    if not params.get("volume_backed", True) or not any(name in properties for name in STABLE_RESCUE):
        raise Invalid(
            f"Instance {server.id} cannot be rescued: Cannot rescue a volume-backed instance",
            hint="It takes microversion 2.87 and a rescue image with the property hw_rescue_device or hw_rescue_bus.",
            reason="volume_backed",
        )


def _check_rebuild(server: Server, params: dict[str, Any], context: Context) -> None:
    must_be_served(params["image"].get("properties", {}))
    if server.volume_backed and not params.get("reimage") and params["image"]["id"] != params.get("root_image_id"):
        raise Invalid(
            "Unable to rebuild with a different image for a volume-backed server.",
            hint="From microversion 2.93 on its root volume is filled anew with the image.",
            reason="volume_backed",
        )


def _check_create_backup(server: Server, params: dict[str, Any], context: Context) -> None:
    if server.volume_backed:
        raise Invalid(
            "Backup is not supported for volume-backed instances.",
            hint="Make an image, or snapshots of its volumes.",
            reason="volume_backed",
        )


CHECKS: dict[str, Any] = {
    "resize": _check_resize,
    "confirm-resize": _check_confirm_resize,
    "unshelve": _check_unshelve,
    "detach-interface": _check_detach_interface,
    "attach-volume": _check_attach_volume,
    "detach-volume": _check_detach_volume,
    "swap-volume": _check_swap_volume,
    "extend-volume": _check_extend_volume,
    "snapshot-volume": _check_snapshot_volume,
    "rescue": _check_rescue,
    "rebuild": _check_rebuild,
    "create-backup": _check_create_backup,
}
