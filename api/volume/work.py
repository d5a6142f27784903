"""The work that follows an answer: making and deleting the files of volumes and snapshots.

A request records what is to be made (`creating`, ...), starts the work and answers. Work ends in a state that says how
it went, `error` with its reason included. What a killed process left undone is in those states too: `resume` starts it
again, and doing it twice gives the same file. What another process is at is locked, and left to it (see
`api.volume.locks`). Works run at most `AT_ONCE` at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import structlog

from api.image import store
from api.image.header import virtual_size_of
from api.services import Services
from api.volume import locks
from commands import disks
from commands.context import SERVICE, CommandContext
from commands.volume_files import VolumeFiles
from domain import images
from domain import volumes as rules
from domain.errors import NotFound, Rejected, Unavailable
from domain.resources import Resource, Volume, VolumeSnapshot

AT_ONCE = 2
TRY_SECONDS = 30.0  # for one try to record how a work ended, and the pause before the next
PAUSE_SECONDS = 2.0
_log = structlog.get_logger("chronova.volume")
T = TypeVar("T")


class Work:
    """The running works of one API process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings
        self.files = VolumeFiles(services.commands, services.read, settings.images_dir, settings.volumes_dir)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()

    async def resume(self) -> None:
        """Start what an earlier process left undone. What a server's workflow is at is the conductor's to end."""
        read = self._services.read
        undone = ["creating", "deleting", "uploading", "reverting"]
        for volume in await read.resources("volume", where={"status": undone}):
            if not cast(Volume, volume).reserved_for:
                await self.continue_volume(cast(Volume, volume))
        for snapshot in await read.resources("volume_snapshot", where={"status": ["creating", "deleting"]}):
            if not cast(VolumeSnapshot, snapshot).made_by:
                self.continue_snapshot(cast(VolumeSnapshot, snapshot))
        for volume in await read.resources("volume", where={"status": "extending"}):
            await self._not_extended(cast(Volume, volume))

    async def _not_extended(self, volume: Volume) -> None:
        """Marked for a command that was never given, because the process that was about to give it ended."""
        with suppress(locks.Busy, NotFound), self.hold(volume.id):
            holder = next((one["server_id"] for one in volume.attachments), None)
            server = await self._services.commands.load_server(holder) if holder else None
            if server is None or server.operation is None:  # else its workflow ends it
                await self._recover(volume.id, rules.not_extended)

    async def _not_copied(self, volume: Volume) -> None:
        """Copying to an image or back from a snapshot was cut off: the volume itself was never changed half-way."""
        with suppress(locks.Busy, NotFound), self.hold(volume.id):
            await self._cut_off(volume.id)

    async def _cut_off(self, volume_id: str) -> None:
        for image in await self._services.read.resources("image", where={"volume_id": volume_id, "status": "saving"}):
            await asyncio.to_thread(disks.remove, self._part(image.id))
            with suppress(NotFound):
                await self._services.commands.update(
                    "image", image.id, {}, self._context(), verb="fail", check=images.cut_off
                )
        await self._recover(volume_id, rules.not_copied)

    async def _recover(self, id_: str, check: Callable[[Any], dict[str, Any]]) -> None:
        await self._services.commands.update("volume", id_, {}, self._context(), verb="recover", check=check)

    def hold(self, id_: str) -> AbstractContextManager[None]:
        """Keep the other processes from a volume or snapshot. Raises `locks.Busy`."""
        return locks.hold(self._services.settings.volumes_dir, id_)

    async def stop(self) -> None:
        """Give up what is running; the next start takes it up again."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def continue_volume(self, volume: Volume) -> None:
        if volume.status == "creating":
            with suppress(locks.Busy), ExitStack() as held:
                held.enter_context(self.hold(volume.id))
                self._start("volume", volume.id, self._make_volume(volume), held.pop_all())
        elif volume.status == "deleting":
            self._start("volume", volume.id, self._delete("volume", volume.id))
        else:
            await self._not_copied(volume)

    def continue_snapshot(self, snapshot: VolumeSnapshot) -> None:
        if snapshot.status == "creating":
            with suppress(locks.Busy), ExitStack() as held:
                held.enter_context(self.hold(snapshot.id))
                self._start("volume_snapshot", snapshot.id, self._make_snapshot(snapshot), held.pop_all())
        else:
            self._start("volume_snapshot", snapshot.id, self._delete("volume_snapshot", snapshot.id))

    def upload(self, volume: Volume, image_id: str, held: ExitStack) -> None:
        """`held`: what keeps the others from the volume; it is closed when the work has ended."""
        self._start("volume", volume.id, self._upload(volume, image_id), held, failed_to="available")

    def give_up(self, volume_id: str, held: ExitStack) -> None:
        """A copy of the volume was begun and has nobody to do it. `held` as for `upload`."""
        self._start("volume", volume_id, self._given_up(volume_id), held, failed_to="available")

    async def _given_up(self, volume_id: str) -> None:
        with suppress(NotFound):
            await self._until_told(lambda: self._cut_off(volume_id), id=volume_id, verb="recover")

    def revert(self, volume: Volume, snapshot: VolumeSnapshot, held: ExitStack) -> None:
        """`held` as for `upload`."""
        self._start("volume", volume.id, self._revert(volume, snapshot), held)

    def _start(
        self,
        kind: str,
        id_: str,
        work: Coroutine[Any, Any, None],
        held: ExitStack | None = None,
        failed_to: str = "error",
    ) -> None:
        task = asyncio.create_task(self._guarded(kind, id_, work, failed_to), name=f"{kind} {id_}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if held is not None:  # by the task's end, not in it: one that is cancelled early never begins
            task.add_done_callback(lambda _: held.close())

    async def _guarded(self, kind: str, id_: str, work: Coroutine[Any, Any, None], failed_to: str) -> None:
        """The boundary of a work: whatever goes wrong ends in a state, not in silence."""
        async with self._slots:
            try:
                await work
            except (Rejected, OSError) as error:
                _log.warning("volume_work_failed", kind=kind, id=id_, error=str(error))
                changes: dict[str, Any] = {"status": failed_to}
                if kind == "volume":
                    changes["fault"] = error.text if isinstance(error, Rejected) else str(error)
                with suppress(NotFound):
                    await self._ended(kind, id_, changes, "fail")

    async def _make_volume(self, volume: Volume) -> None:
        if await self._is_to_be_made("volume", volume.id):
            await self.files.make(volume)
            available, context = {"status": "available"}, self._context()
            await self._until_told(
                lambda: self.files.made(volume, available, context), kind="volume", id=volume.id, verb="make"
            )

    async def _make_snapshot(self, snapshot: VolumeSnapshot) -> None:
        if await self._is_to_be_made("volume_snapshot", snapshot.id):
            await self.files.make_snapshot(snapshot)
            await self._ended("volume_snapshot", snapshot.id, {"status": "available"}, "make")

    async def _delete(self, kind: str, id_: str) -> None:
        """Its file is gone at once; the log is told when it is there."""
        context = self._context()
        await self._until_told(lambda: self.files.delete(kind, id_, context), kind=kind, id=id_, verb="delete")

    async def _is_to_be_made(self, kind: str, id_: str) -> bool:
        """By the log: another process may have made it just before it was locked here."""

        async def look() -> bool:
            found = await self._services.commands.load(kind, id_)
            return isinstance(found, Volume | VolumeSnapshot) and found.status == "creating"

        return await self._until_told(look, kind=kind, id=id_, verb="look")

    async def _upload(self, volume: Volume, image_id: str) -> None:
        part = self._part(image_id)
        try:
            await disks.copy(self.files.volume_path(volume.id), volume.disk_format, part, None)
            size, md5, sha512 = await asyncio.to_thread(store.measured, part)
            fields = {
                "status": "active",
                "size": size,
                "virtual_size": await asyncio.to_thread(virtual_size_of, part, "qcow2"),
                "checksum": md5,
                "os_hash_algo": "sha512",
                "os_hash_value": sha512,
            }
            await asyncio.to_thread(part.replace, part.with_name(image_id))
            await self._ended("image", image_id, fields, "activate")
        except (Rejected, OSError):  # what is cancelled is left to the next start
            part.unlink(missing_ok=True)
            with suppress(NotFound):
                await self._ended("image", image_id, {"status": "killed"}, "fail")
            raise
        await self._ended("volume", volume.id, {"status": "available"}, "uploaded")

    def _part(self, image_id: str) -> Path:
        """What becomes an image's file when it is complete."""
        return self._services.settings.images_dir / f".{image_id}.part"

    async def _revert(self, volume: Volume, snapshot: VolumeSnapshot) -> None:
        await disks.copy(self.files.snapshot_path(snapshot.id), "qcow2", self.files.volume_path(volume.id), None)
        changes = {"status": "available", "size_gb": snapshot.size_gb, "disk_format": "qcow2"}
        await self._ended("volume", volume.id, changes, "revert")

    async def _ended(self, kind: str, id_: str, changes: dict[str, Any], verb: str) -> None:
        """Record how a work went."""
        await self._until_told(lambda: self._update(kind, id_, changes, verb), kind=kind, id=id_, verb=verb)

    async def _until_told(self, tell: Callable[[], Awaitable[T]], **what: str) -> T:
        """Nobody asks for it a second time, so while the log is away it is tried again."""
        while True:
            try:
                async with asyncio.timeout(TRY_SECONDS):
                    return await tell()
            except (Unavailable, TimeoutError) as error:
                _log.warning("volume_work_not_recorded", error=repr(error), **what)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _update(self, kind: str, id_: str, changes: dict[str, Any], verb: str) -> Resource:
        return await self._services.commands.update(kind, id_, changes, self._context(), verb=verb)

    def _context(self) -> CommandContext:
        return CommandContext(SERVICE, f"req-{uuid4()}")
