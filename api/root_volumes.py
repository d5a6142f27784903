"""What rebuilding a server means whose root disk is a volume."""

from __future__ import annotations

from typing import Any

from api.services import Services
from commands.volume_files import least_gb
from domain.errors import Invalid
from domain.resources import Image, Volume
from domain.server import Server


async def rebuilt_volume(services: Services, server: Server, image: Image, *, reimage: bool) -> dict[str, Any]:
    """Parameters of a rebuild. `reimage` (Nova's way from 2.93 on): the volume is filled anew; else its image stays.

    Raises `Invalid` for an image that the volume cannot hold.
    """
    root = next(one for one in server.volumes if one.boot_index == 0)
    volume = await services.read.resource("volume", root.volume_id)
    held = volume.image_metadata.get("image_id") if isinstance(volume, Volume) else None
    if reimage and image.disk_format not in ("qcow2", "raw"):
        raise Invalid(f"Image {image.id} cannot become a volume", hint="It has to be qcow2 or raw.")
    if reimage and least_gb(image) > root.size_gb:
        raise Invalid(
            "Volume is smaller than the minimum size specified in image metadata. Volume size is "
            f"{root.size_gb << 30} bytes, minimum size is {least_gb(image) << 30} bytes.",
            hint="Use a smaller image, or create a server with a larger volume.",
        )
    return {"root_image_id": held, "reimage": reimage}
