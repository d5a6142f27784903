"""What a creator may ask for as a server's disks: the rules of block_device_mapping_v2, of its older form, of images.

Pure. The mappings come as the API got them (their form was checked), and become `Wanted`; what they name is looked up
by the API. Every refusal is Nova's sentence (its `InvalidBDM...` exceptions), always 400.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from domain.errors import Forbidden, Invalid
from domain.server import FlavorSnapshot, Server

ROOT_DEVICE = "/dev/vda"
MOST_DEVICES = 26  # /dev/vda to /dev/vdz
BUSES = (None, "", "virtio")
KINDS = (None, "", "disk")
TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})


@dataclass(frozen=True)
class Wanted:
    """One disk of a request. `destination`: volume or local; `size_gb` 0: as large as its source."""

    source_type: str
    destination: str
    source_id: str | None = None
    boot_index: int | None = None
    size_gb: int = 0
    device: str | None = None
    delete_on_termination: bool = False
    tag: str | None = None
    guest_format: str | None = None

    @property
    def is_root(self) -> bool:
        return self.boot_index == 0


def invalid(details: str, hint: str = "") -> Invalid:
    return Invalid(f"Block Device Mapping is Invalid: {details}", hint=hint, reason="block_device_mapping")


def wanted_of(mappings: Iterable[Mapping[str, Any]], *, image_id: str | None) -> list[Wanted]:
    """block_device_mapping_v2. `image_id` is the request's imageRef: only that image may be a local disk."""
    return [_wanted(one, image_id) for one in mappings if not one.get("no_device")]


def _wanted(given: Mapping[str, Any], image_id: str | None) -> Wanted:
    source, uuid = given.get("source_type") or "", given.get("uuid") or given.get(f"{given.get('source_type')}_id")
    if source not in ("volume", "image", "snapshot", "blank"):
        raise invalid("Invalid source_type field.")
    if source == "blank" and uuid:
        raise invalid("Invalid device UUID.")
    if source != "blank" and not uuid:
        raise invalid("Missing device UUID.")
    boot_index = int(given["boot_index"]) if given.get("boot_index") is not None else None
    destination = given.get("destination_type") or ("local" if source == "blank" else "volume")
    if source == "image" and not given.get("destination_type"):
        destination = "local" if boot_index == 0 and uuid == image_id else "volume"
    if source == "image" and destination == "local" and boot_index != 0:
        raise invalid("Mapping image to local is not supported.")
    if source in ("volume", "snapshot") and destination == "local":
        raise invalid(f"Mapping {source} to local is not supported.", "Use destination_type volume.")
    if destination == "volume" and given.get("disk_bus") not in BUSES:
        raise invalid(f"disk_bus {given['disk_bus']} is not offered here.", "Use virtio, or leave it out.")
    if destination == "volume" and given.get("device_type") not in KINDS:
        raise invalid(f"device_type {given['device_type']} is not offered here.", "Use disk, or leave it out.")
    return Wanted(
        source_type=source,
        destination=destination,
        source_id=uuid,
        boot_index=boot_index if boot_index is not None and boot_index >= 0 else None,
        size_gb=int(given.get("volume_size") or 0),
        device=device_name(given.get("device_name")),
        delete_on_termination=_flag(given.get("delete_on_termination", False)),
        tag=given.get("tag"),
        guest_format=given.get("guest_format"),
    )


def wanted_of_legacy(mappings: Iterable[Mapping[str, Any]], *, image_id: str | None) -> list[Wanted]:
    """block_device_mapping, the older form. Without an image the disk called vda is the root, else the first."""
    found = [_legacy(one) for one in mappings if "no_device" not in one and not one.get("virtual_name")]
    if image_id is not None:
        return [Wanted("image", "local", image_id, 0), *found]
    root = next((one for one in found if one.device == ROOT_DEVICE), found[0] if found else None)
    return [replace(one, boot_index=0) if one is root else one for one in found]


def _legacy(given: Mapping[str, Any]) -> Wanted:
    source = next((kind for kind in ("snapshot", "volume") if given.get(f"{kind}_id")), None)
    if source is None:
        raise invalid("Missing device UUID.", "Name a volume_id or a snapshot_id.")
    return Wanted(
        source_type=source,
        destination="volume",
        source_id=given[f"{source}_id"],
        size_gb=int(given.get("volume_size") or 0),
        device=device_name(given.get("device_name")),
        delete_on_termination=_flag(given.get("delete_on_termination", False)),
    )


def device_name(given: str | None) -> str | None:
    """`/dev/vdb` of what was asked for. Raises for a name that no device can have; other buses' names are not kept."""
    if given is None:
        return None
    name = given.removeprefix("/dev/")
    if not name or len(given) > 255:
        raise invalid("Device name empty or too long.")
    if " " in given:
        raise invalid("Device name contains spaces.")
    letters = name.removeprefix("vd")
    return f"/dev/{name}" if name.startswith("vd") and letters.isalpha() and len(letters) == 1 else None


def free_devices(used: Iterable[str | None]) -> Iterator[str]:
    """The names that no disk has, in their order; never the root's."""
    names = (f"/dev/vd{letter}" for letter in string.ascii_lowercase[:MOST_DEVICES])
    taken = {ROOT_DEVICE, *used}
    return (name for name in names if name not in taken)


def next_device(server: Server) -> str:
    """The first name that no disk of the server has."""
    used = (*(volume.device for volume in server.volumes), server.root_device_name)
    free = next(free_devices(used), None)
    if free is None:
        raise Forbidden(
            f"The maximum allowed number of disk devices ({MOST_DEVICES}) to attach to a single instance has been "
            "exceeded.",
            hint="Detach a volume first.",
        )
    return free


def devices_of_new(server: Server) -> list[str]:
    """A name for each disk that a new server begins with: the root's, the one asked for, else the next free one."""
    named = [server.root_device_name if one.boot_index == 0 else one.device for one in server.block_devices]
    free = free_devices((*named, server.root_device_name))
    return [name or next(free) for name in named]


def of_image(properties: Mapping[str, str]) -> list[Wanted]:
    """The disks that an image made of a volume-backed server describes; none for other images."""
    text = properties.get("block_device_mapping")
    if not text:
        return []
    try:
        found = msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise invalid("the image's block_device_mapping can not be read.", "Make the image again.") from error
    return wanted_of(found, image_id=None)


def merged(of_image: Sequence[Wanted], asked: Sequence[Wanted]) -> list[Wanted]:
    """The request's disks over those of its image: one of the same device name or boot index takes its place."""
    if any(one.is_root for one in of_image):
        asked = [one for one in asked if not (one.is_root and one.source_type == "image")]
    names = {one.device for one in asked if one.device}
    indexes = {one.boot_index for one in asked if one.boot_index is not None}
    kept = [one for one in of_image if one.device not in names and one.boot_index not in indexes]
    return [*kept, *asked]


def must_make_sense(wanted: Sequence[Wanted], flavor: FlavorSnapshot, *, image_id: str | None, count: int) -> None:
    """Raise what is wrong with a request's disks as a whole."""
    if image_id is not None and any(one.destination == "volume" and one.device == ROOT_DEVICE for one in wanted):
        raise Invalid("The volume cannot be assigned the same device name as the root device vda")
    if count > 1 and any(one.source_type == "volume" for one in wanted):
        raise Invalid("Cannot attach one or more volumes to multiple instances")
    order = sorted(one.boot_index for one in wanted if one.boot_index is not None)
    if order != list(range(len(order))) or not order:
        raise Invalid(
            "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping "
            "combination is not valid.",
            hint="One disk has boot_index 0; others count on from there, or have none.",
            reason="boot_sequence",
        )
    for one in wanted:
        if one.destination == "volume" and not one.size_gb and one.source_type == "blank":
            raise invalid(
                "Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size", "Give a volume_size."
            )
        if one.destination == "volume" and not one.size_gb and one.source_type == "image":
            raise invalid(
                "Images with destination_type 'volume' need to have a non-zero size specified", "Give a volume_size."
            )
    _names_must_differ(wanted)
    _local_disks_must_fit(wanted, flavor)


def _names_must_differ(wanted: Sequence[Wanted]) -> None:
    names = [one.device for one in wanted if one.device]
    if len(names) != len(set(names)):
        raise invalid("two disks have the same device name.", "Leave device names out, or make them differ.")
    volumes = [one.source_id for one in wanted if one.source_type == "volume"]
    if len(volumes) != len(set(volumes)):
        raise invalid("one volume is mapped twice.", "Map each volume once.")


def _local_disks_must_fit(wanted: Sequence[Wanted], flavor: FlavorSnapshot) -> None:
    blank = [one for one in wanted if one.source_type == "blank" and one.destination == "local"]
    swap = sum(one.size_gb for one in blank if one.guest_format == "swap")
    ephemeral = sum(one.size_gb for one in blank if one.guest_format != "swap")
    if swap > flavor.swap:
        raise Invalid("Swap drive requested is larger than instance type allows.")
    if ephemeral > flavor.ephemeral:
        raise Invalid(
            "Ephemeral disks requested are larger than the instance type allows. If no size is given in one block "
            "device mapping, flavor ephemeral size will be used."
        )


def _flag(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).strip().lower() in TRUE


def image_property(snapshots: Sequence[Mapping[str, Any]]) -> str:
    """The block_device_mapping property of an image made of a volume-backed server, from the snapshots of its volumes.

    Each: `snapshot_id`, `size_gb`, `boot_index`, `device`, `delete_on_termination`, `tag`.
    """
    described = [
        {
            "source_type": "snapshot",
            "destination_type": "volume",
            "snapshot_id": one["snapshot_id"],
            "boot_index": one["boot_index"],
            "volume_size": one["size_gb"],
            "device_name": one["device"],
            "delete_on_termination": one["delete_on_termination"],
            "tag": one["tag"],
            "device_type": "disk",
            "disk_bus": "virtio",
            "guest_format": None,
            "image_id": None,
            "volume_id": None,
            "no_device": None,
        }
        for one in snapshots
    ]
    return msgspec.json.encode(described).decode()
