"""The work that follows an answer: making and deleting the files of volumes and snapshots.

A request records what is to be made (`creating`, ...), starts the work and answers. Work ends in a state that says how
it went, `error` with its reason included. What a killed process left undone is in those states too: `resume` starts it
again, and doing it twice gives the same file. Works run at most `AT_ONCE` at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import structlog

from api.image import store
from api.image.header import virtual_size_of
from api.services import Services
from api.volume import disks
from api.volume.disks import DiskFailed
from commands.context import SERVICE, CommandContext
from domain.errors import NotFound, Rejected
from domain.resources import Image, Resource, Volume, VolumeSnapshot

AT_ONCE = 2
_log = structlog.get_logger("chronova.volume")


class Work:
    """The running works of one API process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()

    async def resume(self) -> None:
        """Start what an earlier process left undone."""
        read = self._services.read
        undone = ["creating", "deleting", "uploading", "reverting"]
        for volume in await read.resources("volume", where={"status": undone}):
            await self.continue_volume(cast(Volume, volume))
        for snapshot in await read.resources("volume_snapshot", where={"status": ["creating", "deleting"]}):
            self.continue_snapshot(cast(VolumeSnapshot, snapshot))

    async def stop(self) -> None:
        """Give up what is running; the next start takes it up again."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def continue_volume(self, volume: Volume) -> None:
        if volume.status == "creating":
            self._start("volume", volume.id, self._make_volume(volume))
        elif volume.status == "deleting":
            self._start("volume", volume.id, self._delete("volume", volume.id, self.volume_path(volume.id)))
        else:  # copying to an image or back from a snapshot was cut off: the volume itself was never changed half-way
            await self._update("volume", volume.id, {"status": "available"}, "recover")

    def continue_snapshot(self, snapshot: VolumeSnapshot) -> None:
        if snapshot.status == "creating":
            self._start("volume_snapshot", snapshot.id, self._make_snapshot(snapshot))
        else:
            path = self.snapshot_path(snapshot.id)
            self._start("volume_snapshot", snapshot.id, self._delete("volume_snapshot", snapshot.id, path))

    def upload(self, volume: Volume, image_id: str) -> None:
        self._start("volume", volume.id, self._upload(volume, image_id), failed_to="available")

    def revert(self, volume: Volume, snapshot: VolumeSnapshot) -> None:
        self._start("volume", volume.id, self._revert(volume, snapshot), failed_to="error")

    def volume_path(self, volume_id: str) -> Path:
        return self._services.settings.volumes_dir / volume_id

    def snapshot_path(self, snapshot_id: str) -> Path:
        return self._services.settings.volumes_dir / disks.SNAPSHOTS / snapshot_id

    def _start(self, kind: str, id_: str, work: Coroutine[Any, Any, None], failed_to: str = "error") -> None:
        task = asyncio.create_task(self._guarded(kind, id_, work, failed_to), name=f"{kind} {id_}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _guarded(self, kind: str, id_: str, work: Coroutine[Any, Any, None], failed_to: str) -> None:
        """The boundary of a work: whatever goes wrong ends in a state, not in silence."""
        async with self._slots:
            try:
                await work
            except (DiskFailed, Rejected, OSError) as error:
                _log.warning("volume_work_failed", kind=kind, id=id_, error=str(error))
                changes: dict[str, Any] = {"status": failed_to}
                if kind == "volume":
                    changes["fault"] = str(error)
                with suppress(NotFound):
                    await self._update(kind, id_, changes, "fail")

    async def _make_volume(self, volume: Volume) -> None:
        path = self.volume_path(volume.id)
        source = await self._source(volume)
        if source is None:
            await disks.create(path, volume.size_gb, volume.disk_format)
        else:
            await disks.copy(*source, path, volume.size_gb)
        await self._update("volume", volume.id, {"status": "available", "fault": ""}, "make")

    async def _source(self, volume: Volume) -> tuple[Path, str] | None:
        """The disk that a volume is a copy of, and its format; None for an empty one."""
        read = self._services.read
        if volume.snapshot_id:
            return self.snapshot_path(volume.snapshot_id), "qcow2"
        if volume.source_volume_id:
            source = await read.resource("volume", volume.source_volume_id)
            return self.volume_path(volume.source_volume_id), cast(Volume, source).disk_format
        if volume.image_id:
            image = await read.resource("image", volume.image_id)
            if not isinstance(image, Image) or image.deleted or image.status != "active":
                raise DiskFailed(f"Image {volume.image_id} is gone")
            return self._services.settings.images_dir / image.id, image.disk_format or "raw"
        return None

    async def _make_snapshot(self, snapshot: VolumeSnapshot) -> None:
        volume = await self._services.read.resource("volume", snapshot.volume_id)
        format_ = cast(Volume, volume).disk_format
        path = self.snapshot_path(snapshot.id)
        await disks.copy(self.volume_path(snapshot.volume_id), format_, path, None)
        await self._update("volume_snapshot", snapshot.id, {"status": "available"}, "make")

    async def _delete(self, kind: str, id_: str, path: Path) -> None:
        await asyncio.to_thread(disks.remove, path)
        await self._services.commands.delete(kind, id_, self._context())

    async def _upload(self, volume: Volume, image_id: str) -> None:
        directory = self._services.settings.images_dir
        part = directory / f".{image_id}.part"
        try:
            await disks.copy(self.volume_path(volume.id), volume.disk_format, part, None)
            size, md5, sha512 = await asyncio.to_thread(store.measured, part)
            fields = {
                "status": "active",
                "size": size,
                "virtual_size": await asyncio.to_thread(virtual_size_of, part, "qcow2"),
                "checksum": md5,
                "os_hash_algo": "sha512",
                "os_hash_value": sha512,
            }
            await asyncio.to_thread(part.replace, directory / image_id)
            await self._update("image", image_id, fields, "activate")
        except BaseException:
            part.unlink(missing_ok=True)
            with suppress(NotFound):
                await asyncio.shield(self._update("image", image_id, {"status": "killed"}, "fail"))
            raise
        await self._update("volume", volume.id, {"status": "available"}, "uploaded")

    async def _revert(self, volume: Volume, snapshot: VolumeSnapshot) -> None:
        await disks.copy(self.snapshot_path(snapshot.id), "qcow2", self.volume_path(volume.id), None)
        changes = {"status": "available", "size_gb": snapshot.size_gb, "disk_format": "qcow2"}
        await self._update("volume", volume.id, changes, "revert")

    async def _update(self, kind: str, id_: str, changes: dict[str, Any], verb: str) -> Resource:
        return await self._services.commands.update(kind, id_, changes, self._context(), verb=verb)

    def _context(self) -> CommandContext:
        return CommandContext(SERVICE, f"req-{uuid4()}")
