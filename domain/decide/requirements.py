"""What a command needs beyond its guard, and what accepting it changes beyond its task_state."""

from __future__ import annotations

from typing import Any

from domain.decide.context import Context
from domain.errors import Conflict, Invalid, NotFound
from domain.server import Server


def nothing(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    return {}


def _rebuild_changes(server: Server, params: dict[str, Any], context: Context) -> dict[str, Any]:
    patch: dict[str, Any] = {
        "image_id": params["image"]["id"],
        "image_properties": params["image"].get("properties", {}),
    }
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


ON_ACCEPT: dict[str, Any] = {"rebuild": _rebuild_changes, "unshelve": _unshelve_changes}


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
    if device and any(attachment.device == device for attachment in server.volumes):
        raise Conflict(f"The supplied device path ({device}) is in use.", hint="Leave it out: a free one is chosen.")


def _check_detach_volume(server: Server, params: dict[str, Any], context: Context) -> None:
    if all(attachment.volume_id != params["volume_id"] for attachment in server.volumes):
        raise NotFound(
            f"Instance {server.id} is not attached to volume {params['volume_id']}",
            hint="The server's os-volume_attachments lists its volumes.",
        )


CHECKS: dict[str, Any] = {
    "resize": _check_resize,
    "unshelve": _check_unshelve,
    "detach-interface": _check_detach_interface,
    "attach-volume": _check_attach_volume,
    "detach-volume": _check_detach_volume,
}
