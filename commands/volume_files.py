"""Making the file of a volume or a snapshot, and telling the volume how that went.

The same for a volume that a user asked for (the API's process) and for one that a new server boots from (the
conductor): a volume says what it is a copy of, so whoever makes it needs nothing else. Making it twice is harmless.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from commands import disks
from commands.context import CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from commands.progress import Tell, ignore
from domain.errors import NotFound
from domain.resources import Image, Volume, VolumeSnapshot


@dataclass(frozen=True)
class VolumeFiles:
    """`images_dir` and `volumes_dir` are as the agents see them."""

    commands: Commands
    read: Lookup
    images_dir: Path
    volumes_dir: Path

    def volume_path(self, volume_id: str) -> Path:
        return disks.volume_path(self.volumes_dir, volume_id)

    def snapshot_path(self, snapshot_id: str) -> Path:
        return disks.snapshot_path(self.volumes_dir, snapshot_id)

    async def make(self, volume: Volume, tell: Tell = ignore) -> None:
        """The file. `tell` is told how far a copy is. Raises `DiskFailed`."""
        path = self.volume_path(volume.id)
        source = await self._source(volume)
        if source is None:
            await disks.create(path, volume.size_gb, volume.disk_format)
        else:
            await disks.copy(*source, path, volume.size_gb, tell)

    async def made(self, volume: Volume, changes: dict[str, Any], context: CommandContext) -> Volume:
        """The volume, whose file is there, is changed so. One that was deleted meanwhile keeps no file.

        Raises `NotFound` for a volume that is gone.
        """
        path = self.volume_path(volume.id)
        try:
            made = await self.commands.update("volume", volume.id, changes | {"fault": ""}, context, verb="make")
        except NotFound:
            await asyncio.to_thread(disks.remove, path)
            raise
        return cast(Volume, made)

    async def _source(self, volume: Volume) -> tuple[Path, str] | None:
        """The disk that a volume is a copy of, and its format; None for an empty one."""
        if volume.snapshot_id:
            return self.snapshot_path(volume.snapshot_id), "qcow2"
        if volume.source_volume_id:
            source = await self.read.resource("volume", volume.source_volume_id)
            return self.volume_path(volume.source_volume_id), cast(Volume, source).disk_format
        if volume.image_id:
            image = await self.read.resource("image", volume.image_id)
            if not isinstance(image, Image) or image.deleted or image.status != "active":
                raise disks.DiskFailed(f"Image {volume.image_id} is gone", hint="Use another image.")
            return self.images_dir.absolute() / image.id, image.disk_format or "raw"
        return None

    async def make_snapshot(self, snapshot: VolumeSnapshot, tell: Tell = ignore) -> None:
        """Copy a volume that nobody writes to."""
        volume = await self.read.resource("volume", snapshot.volume_id)
        source, format_ = self.volume_path(snapshot.volume_id), cast(Volume, volume).disk_format
        await disks.copy(source, format_, self.snapshot_path(snapshot.id), None, tell)

    async def delete(self, kind: str, id_: str, context: CommandContext) -> None:
        """The file first: a resource that is gone has none."""
        path = self.volume_path(id_) if kind == "volume" else self.snapshot_path(id_)
        await asyncio.to_thread(disks.remove, path)
        await self.commands.delete(kind, id_, context)


def of_image(image: Image) -> dict[str, Any]:
    """The fields of a volume that begins as an image."""
    metadata = {
        "image_id": image.id,
        "image_name": image.name,
        "checksum": image.checksum or "",
        "container_format": image.container_format or "bare",
        "disk_format": image.disk_format or "raw",
        "min_disk": str(image.min_disk),
        "min_ram": str(image.min_ram),
        "size": str(image.size or 0),
        **image.properties,
    }
    return {"image_id": image.id, "image_metadata": metadata, "bootable": True}


def least_gb(image: Image) -> int:
    """How large a volume of this image has to be."""
    virtual = image.virtual_size or image.size or 0
    return max(1, image.min_disk, -(-virtual // disks.GIB))
