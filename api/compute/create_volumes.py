"""What a new server starts from: an image, or what its block device mapping says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from api.compute import faults
from api.compute.call import Call
from api.compute.lookups import image_of
from domain.errors import Invalid, NotImplementedHere
from domain.resources import Flavor, Image


@dataclass(frozen=True)
class BootSource:
    image_id: str | None = None
    image_properties: dict[str, str] = field(default_factory=dict)


async def boot_source(call: Call, wanted: dict[str, Any], flavor: Flavor) -> BootSource:
    """The image to start from. Raises `Invalid` when it is missing, inactive or too big for the flavor."""
    image_ref = wanted.get("imageRef") or None
    for mapping in wanted.get("block_device_mapping_v2") or ():
        image_ref = _mapped(mapping, image_ref)
    if wanted.get("block_device_mapping"):
        raise _no_volumes()
    if image_ref is None:
        raise Invalid(
            "Invalid imageRef provided.", hint="Name an image, or map one with boot_index 0 in block_device_mapping_v2."
        )
    image = await image_of(call, image_ref)
    if image is None:
        raise Invalid(f"Image {image_ref} could not be found.")
    _must_fit(image, flavor)
    return BootSource(image.id, dict(image.properties))


def _mapped(mapping: dict[str, Any], image_ref: str | None) -> str | None:
    source, destination = mapping.get("source_type"), mapping.get("destination_type")
    boot_index = mapping.get("boot_index")
    if source == "image" and destination in ("local", None):
        if boot_index is None or int(boot_index) != 0:
            raise Invalid("Mapping image to local is not supported.")
        if image_ref not in (None, mapping.get("uuid")):
            raise Invalid("Boot sequence for the instance and image/block device mapping combination is not valid.")
        return str(mapping["uuid"])
    if source == "blank" and destination in ("local", None):
        return image_ref  # swap and ephemeral disks come with the flavor
    raise _no_volumes()


def _no_volumes() -> NotImplementedHere:
    return NotImplementedHere(
        "Servers cannot be created with volumes yet.", hint="Create the server from an image and attach the volume."
    )


def _must_fit(image: Image, flavor: Flavor) -> None:
    if image.status != "active":
        raise Invalid(f"Image {image.id} is not active.")
    if image.min_ram > flavor.ram:
        raise Invalid("Flavor's memory is too small for requested image.")
    if flavor.disk == 0:
        return
    if image.min_disk > flavor.disk:
        raise faults.smaller_than_min_disk(flavor.disk, image.min_disk)
    if max(image.virtual_size or 0, image.size or 0) > flavor.disk << 30:
        raise Invalid("Flavor's disk is too small for requested image.", hint=f"The flavor has {flavor.disk} GB.")
