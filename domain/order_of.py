"""The order that a server's state calls for: the state names the step in progress, this spells it out for the agent.

An order is derived, never stored with the server: the same state at the same position always gives the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain import settling
from domain.image_properties import has_guest_agent, requires_quiesce
from domain.orders import AddressSpec, GuestSpec, ImageSpec, NicSpec, Order, OrderKind, VolumeSpec
from domain.server import Interface, Server, VolumeAttachment
from domain.workflows import UNDO, WORKFLOWS


@dataclass(frozen=True)
class Lookups:
    """What an order needs and the server's state only names. Paths are as the agents see them."""

    image_path: str = ""
    image_format: str = "qcow2"
    image_checksum: str = ""
    snapshot_path: str = ""
    user_data: str | None = None
    rescue_image: ImageSpec | None = None
    reimage: ImageSpec | None = None  # what a root volume is filled with anew
    secrets: dict[str, str] | None = None  # opened parameters, such as a password


def order_kind(server: Server) -> OrderKind | None:
    """The order that is out for this server, or None when the step in progress is not an agent's."""
    operation = server.operation
    if operation is None or operation.awaits != "agent" or server.host is None:
        return None
    if operation.undoing:
        return UNDO[operation.step].order
    return WORKFLOWS[operation.command].step(operation.step).order


def nic_of(interface: Interface) -> NicSpec:
    addresses = tuple(
        AddressSpec(ip.address, ip.prefix_length, ip.gateway, ip.dns, ip.version) for ip in interface.fixed_ips
    )
    return NicSpec(interface.port_id, interface.network_id, interface.mac, addresses, interface.mtu, tag=interface.tag)


def volume_of(attachment: VolumeAttachment) -> VolumeSpec:
    return VolumeSpec(
        id=attachment.volume_id,
        path=attachment.path,
        disk_format=attachment.disk_format,
        device=attachment.device,
        size_gb=attachment.size_gb,
        boot_index=attachment.boot_index,
        tag=attachment.tag,
    )


def image_of(server: Server) -> str | None:
    """The id of the image that the guest's disk is made of."""
    return server.shelved_image_id if server.vm_state == "shelved_offloaded" else server.image_id


def guest_of(server: Server, lookups: Lookups) -> GuestSpec:
    """The guest as the server's state describes it."""
    assert server.flavor is not None
    image = None
    image_id = image_of(server)
    if image_id:
        image = ImageSpec(
            id=image_id,
            path=lookups.image_path,
            disk_format=lookups.image_format,
            checksum=lookups.image_checksum,
            properties=server.image_properties,
        )
    return GuestSpec(
        server_id=server.id,
        instance_name=server.instance_name,
        name=server.name,
        hostname=server.hostname,
        project_id=server.project_id,
        vcpus=server.flavor.vcpus,
        memory_mb=server.flavor.ram,
        disk_gb=server.flavor.disk,
        image=image,
        nics=tuple(nic_of(interface) for interface in server.interfaces),
        volumes=tuple(volume_of(attachment) for attachment in server.volumes),
        ssh_public_keys=((server.key_name or "key", server.public_key),) if server.public_key else (),
        user_data=lookups.user_data,
        metadata=server.metadata,
        admin_password=(lookups.secrets or {}).get("admin_password"),
        availability_zone=server.availability_zone or "nova",
        guest_agent=has_guest_agent(server.image_properties),
        root_tag=server.root_tag,
    )


def order_of(server: Server, position: int, lookups: Lookups) -> Order | None:
    """The order for the step in progress, caused by the commit at `position`; None when no order is due."""
    kind = order_kind(server)
    if kind is None:
        return None
    operation = server.operation
    assert operation is not None
    assert server.host is not None
    return Order(
        id=str(position),
        kind=kind,
        server_id=server.id,
        host=server.host,
        generation=server.generation,
        spec=guest_of(server, lookups),
        params=_params(kind, server, lookups),
        command=operation.command,
        step=operation.step,
        request_id=operation.request_id,
        issued_at=operation.step_started_at,
        deadline=operation.deadline,
    )


def _params(kind: str, server: Server, lookups: Lookups) -> dict[str, Any]:
    operation = server.operation
    assert operation is not None
    given = operation.params
    if kind == "power_off":
        return {"grace_seconds": given.get("grace_seconds", 60)}
    if kind == "rescue":
        assert lookups.rescue_image is not None
        return {
            "image": lookups.rescue_image,
            "admin_password": (lookups.secrets or {}).get("admin_password"),
        }
    if kind == "snapshot":
        return {"image_id": given["image_id"], "image_path": lookups.snapshot_path} | _quiesced(server)
    if kind == "resize":
        return {"flavor": given["flavor"]} if given.get("flavor") else {}
    if kind in ("resize_confirm", "resize_revert"):
        return {"flavor": server.resize.old_flavor} if server.resize is not None else {}
    if kind == "set_password":
        return {"username": given.get("username", "root"), "password": (lookups.secrets or {}).get("password")}
    if kind == "rebuild":
        return {"reimage": lookups.reimage} if lookups.reimage is not None else {}
    if kind in ("attach_volume", "detach_volume"):
        return {"volume": given["volume"]}
    if kind == "swap_volume":
        old, new = given["old"], given["new"]
        return {"old": new, "new": old} if operation.undoing else {"old": old, "new": new}
    if kind == "extend_volume":
        return {"volume": given["volume"], "size_gb": given["size_gb"]}
    if kind == "snapshot_volumes":
        wanted = given["snapshots"] if "snapshots" in given else given["result"]["snapshots"]
        copies = [{key: one[key] for key in ("volume_id", "path")} for one in wanted]
        return {"snapshots": copies} | _quiesced(server)
    if kind in ("attach_interface", "detach_interface"):
        port_id = given.get("port_id") or given.get("port", {}).get("port_id")
        nic = next((nic_of(one) for one in server.interfaces if one.port_id == port_id), None)
        return {"nic": nic}
    if kind == "settle":
        devices = settling.devices(server)
        return {
            "volumes_out": devices.volumes_out,
            "volumes_in": [volume_of(one) for one in devices.volumes_in],
            "swaps": devices.swaps,
            "nics_out": [nic_of(one) for one in devices.interfaces_out],
            "nics_in": [nic_of(one) for one in devices.interfaces_in],
        }
    return {}


def _quiesced(server: Server) -> dict[str, Any]:
    """Whether the server's image, as in Nova, allows no copy of file systems that are not frozen."""
    return {"require_quiesce": True} if requires_quiesce(server.image_properties) else {}
