"""What a new server's disks are: an image, or what its block device mapping says, with all it names looked up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from api.compute import faults
from api.compute.call import Call
from api.compute.lookups import image_of
from api.compute.policy import enforce
from api.volume.quotas import must_have_room_for
from commands.volume_files import least_gb
from domain import block_devices
from domain.block_devices import Wanted
from domain.errors import Forbidden, Invalid, TooLarge
from domain.flavors import snapshot
from domain.resources import Flavor, Image, Volume, VolumeSnapshot
from domain.server import BlockDevice
from domain.volumes import reserve_for_new

DEFAULT_TYPES = (None, "", "default", "__DEFAULT__")


@dataclass(frozen=True)
class BootSource:
    """`image_id` is null for a server that boots from a volume: that is how everybody knows it as one. `root_tag` is
    the tag of the disk made of the image.
    """

    image_id: str | None = None
    image_properties: dict[str, str] = field(default_factory=dict)
    block_devices: tuple[BlockDevice, ...] = ()
    root_tag: str | None = None

    @property
    def reserved(self) -> list[str]:
        """The volumes that are there and have to be kept for the server."""
        return [one.volume_id for one in self.block_devices if not one.made_here]


@dataclass(frozen=True)
class Earlier:
    """What a repeated request finds of itself: the id that its (first) server has, and whether that was created."""

    server_id: str = ""
    created: bool = False


FIRST = Earlier()


async def boot_source(
    call: Call, wanted: dict[str, Any], flavor: Flavor, count: int, earlier: Earlier = FIRST
) -> BootSource:
    """Raises `Invalid` for disks that do not make sense, and for what is missing, inactive, too big or in use."""
    image_id = wanted.get("imageRef") or None
    image = await _image(call, image_id) if image_id is not None else None
    asked = _asked(wanted, image_id)
    described = block_devices.of_image(image.properties) if image is not None else []
    if not asked and not described:
        if image is None:
            raise Invalid(
                "Invalid imageRef provided.",
                hint="Name an image, or map one with boot_index 0 in block_device_mapping_v2.",
            )
        _must_fit(image, flavor)
        return BootSource(image.id, dict(image.properties))
    disks = block_devices.merged(described, asked)
    if any(one.destination == "volume" for one in disks):
        enforce(call, "os_compute_api:servers:create:attach_volume")
    root = next((one for one in disks if one.is_root), None)
    local = root is not None and root.destination == "local"
    block_devices.must_make_sense(disks, snapshot(flavor), image_id=image_id if local else None, count=count)
    assert root is not None, "a boot sequence that makes sense has a root"
    found = [await _block_device(call, one, earlier) for one in disks if one.destination == "volume"]
    await _must_be_allowed(call, [device for device, _ in found if device.made_here], count)
    made = tuple(device for device, _ in found)
    if local:
        if image is None or image.id != root.source_id:
            image = await _image(call, str(root.source_id))
        _must_fit(image, flavor)
        return BootSource(image.id, dict(image.properties), made, root.tag)
    properties = next(properties for device, properties in found if device.boot_index == 0)
    if int(properties.get("min_ram") or 0) > flavor.ram:
        raise Invalid("Flavor's memory is too small for requested image.")
    return BootSource(None, properties, made)


def _asked(wanted: dict[str, Any], image_id: str | None) -> list[Wanted]:
    new, old = wanted.get("block_device_mapping_v2"), wanted.get("block_device_mapping")
    if new and old:
        raise Invalid("Using different block_device_mapping syntaxes is not allowed in the same request.")
    if old:
        return block_devices.wanted_of_legacy(old, image_id=image_id)
    for one in new or ():
        if one.get("volume_type") not in DEFAULT_TYPES:
            raise Invalid(f"The volume type {one['volume_type']} could not be found.", hint="There is one: default.")
    return block_devices.wanted_of(new or (), image_id=image_id)


async def _image(call: Call, image_id: str) -> Image:
    image = await image_of(call, image_id)
    if image is None:
        raise Invalid(f"Image {image_id} could not be found.")
    if image.status != "active":
        raise Invalid(f"Image {image.id} is not active.")
    return image


async def _block_device(call: Call, wanted: Wanted, earlier: Earlier) -> tuple[BlockDevice, dict[str, str]]:
    """The volume that it is or becomes, and the properties of the image that it holds."""
    looks: dict[str, Callable[[Call, Wanted], Awaitable[Found]]]
    looks = {"volume": partial(_volume, earlier=earlier), "snapshot": _snapshot, "image": _image_volume}
    look = looks.get(wanted.source_type)
    size_gb, properties, bootable = await look(call, wanted) if look is not None else (wanted.size_gb, {}, True)
    if wanted.is_root and not bootable:
        raise Invalid(f"Block Device {wanted.source_id} is not bootable.", hint="openstack volume set --bootable")
    return BlockDevice(
        source_type=wanted.source_type,
        volume_id=wanted.source_id or "" if wanted.source_type == "volume" else "",
        source_id=wanted.source_id,
        size_gb=size_gb,
        boot_index=wanted.boot_index,
        device=wanted.device,
        delete_on_termination=wanted.delete_on_termination,
        tag=wanted.tag,
    ), properties


Found = tuple[int, dict[str, str], bool]  # GiB, image properties, whether it can be booted


async def _volume(call: Call, wanted: Wanted, earlier: Earlier) -> Found:
    volume = await call.services.read.resource("volume", str(wanted.source_id))
    mine = isinstance(volume, Volume) and (call.is_admin or volume.project_id == call.project_id)
    if not mine or not isinstance(volume, Volume) or (volume.deleted and not earlier.created):
        raise block_devices.invalid(f"failed to get volume {wanted.source_id}.")
    if not earlier.created:  # refused now rather than when all else was looked up
        reserve_for_new(volume, earlier.server_id or "-", "")
    return volume.size_gb, volume.image_metadata, volume.bootable


async def _snapshot(call: Call, wanted: Wanted) -> Found:
    snapshot = await call.services.read.resource("volume_snapshot", str(wanted.source_id))
    mine = isinstance(snapshot, VolumeSnapshot) and (call.is_admin or snapshot.project_id == call.project_id)
    if not mine or not isinstance(snapshot, VolumeSnapshot) or snapshot.deleted or snapshot.status != "available":
        raise block_devices.invalid(f"failed to get snapshot {wanted.source_id}.")
    _must_hold(wanted, snapshot.size_gb)
    original = await call.services.read.resource("volume", snapshot.volume_id)
    size_gb = wanted.size_gb or snapshot.size_gb
    if isinstance(original, Volume):
        return size_gb, original.image_metadata, original.bootable
    return size_gb, {}, True


async def _image_volume(call: Call, wanted: Wanted) -> Found:
    image = await image_of(call, str(wanted.source_id))
    if image is None:
        raise block_devices.invalid(f"failed to get image {wanted.source_id}.")
    if image.status != "active":
        raise Invalid(f"Image {image.id} is not active.")
    if image.disk_format not in ("qcow2", "raw") or "block_device_mapping" in image.properties:
        raise Invalid(f"Image {image.id} cannot become a volume", hint="It has to be a disk, qcow2 or raw.")
    _must_hold(wanted, least_gb(image))
    return wanted.size_gb, dict(image.properties) | {"min_ram": str(image.min_ram)}, True


def _must_hold(wanted: Wanted, least: int) -> None:
    if wanted.size_gb and wanted.size_gb < least:
        raise Invalid(
            f"Volume is smaller than the minimum size specified in image metadata. Volume size is "
            f"{wanted.size_gb << 30} bytes, minimum size is {least << 30} bytes.",
            hint=f"Ask for at least {least} GB.",
        )


async def _must_be_allowed(call: Call, made: list[BlockDevice], count: int) -> None:
    """The quota of volumes, which Nova says as 403."""
    if not made:
        return
    gigabytes = sum(one.size_gb for one in made) * count
    try:
        await must_have_room_for(call.services, call.project_id, volumes=len(made) * count, gigabytes=gigabytes)
    except TooLarge as error:
        raise Forbidden(f"Volume resource quota exceeded: {error.message}", hint=error.hint, reason="quota") from error


def _must_fit(image: Image, flavor: Flavor) -> None:
    if image.min_ram > flavor.ram:
        raise Invalid("Flavor's memory is too small for requested image.")
    if flavor.disk == 0:
        return
    if image.min_disk > flavor.disk:
        raise faults.smaller_than_min_disk(flavor.disk, image.min_disk)
    if max(image.virtual_size or 0, image.size or 0) > flavor.disk << 30:
        raise Invalid("Flavor's disk is too small for requested image.", hint=f"The flavor has {flavor.disk} GB.")
