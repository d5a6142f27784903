"""What is kept for a command that never came, or was ended by another: an image or snapshot to be filled, a volume, and
addresses that were claimed for a port.

The API makes or reserves such a thing, notes the server that it is for, and gives the command. Its process or NATS may
die between the two, and a delete or a reset may end the command later: then nobody would ever finish or free the
thing. The conductor does, from what the log says of the server: at once when it saw the command being ended and the
thing is older than that (a newer one may be for a command that is yet to come), else when it is older than
`unclaimed_seconds`. One that can not be freed keeps no other from being freed.

What a step took when its operation was over is freed in the same way (`commands.too_late`).

An address is taken back from a port that does not have it after that time, too; a port that still comes for it, however
late, is refused by the log (`commands.networking`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import uuid4

import structlog

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from commands.networking import take_back
from commands.one_by_one import by_itself
from commands.settings import CommandSettings
from commands.steps_images import drop_unfilled
from commands.steps_volumes import snapshot_of, spoil
from commands.too_late import TooLate
from commands.volume_files import VolumeFiles
from domain import volumes as rules
from domain.resources import Image, Resource, Volume, VolumeSnapshot
from domain.server import Server

log_ = structlog.get_logger(__name__)

EVERY_SECONDS = 10.0
LATE_EVERY_SECONDS = 300.0  # such a thing comes when a conductor dies; every port and volume is looked at
UNFINISHED = ["queued", "saving"]


class Sweep:
    def __init__(self, commands: Commands, read: Lookup, settings: CommandSettings) -> None:
        self._commands = commands
        self._read = read
        self._settings = settings
        self._files = VolumeFiles(commands, read, settings.images_dir, settings.volumes_dir)
        self.too_late = TooLate(commands, read, self._files)
        self._late_due = datetime.now(UTC)  # what a conductor before this one was at is there by then

    async def run(self) -> None:
        """Look again and again. The boundary of what looking needs: what can not be done now is done next time."""
        while True:
            await asyncio.sleep(min(EVERY_SECONDS, self._settings.unclaimed_seconds))
            try:
                await self.look(datetime.now(UTC) - timedelta(seconds=self._settings.unclaimed_seconds))
            except Exception as error:
                log_.warning("unclaimed things are looked for later", error=repr(error))

    async def look(self, until: datetime) -> None:
        """Free what nobody will claim: of all servers what has been as it is since that time."""
        await self._look_through(until)
        if self._late_due <= until:
            await self.too_late.look(until)
            self._late_due = until + timedelta(seconds=LATE_EVERY_SECONDS)
        for address in await self._read.addresses_without_port(until):
            with by_itself(address):
                if await take_back(self._commands, address, _context()):
                    log_.warning(
                        "an address that no port has is freed", address=address.address, port_id=address.port_id
                    )

    async def look_after(self, server_id: str, ended_at: datetime) -> None:
        """Free what nobody will claim of one server, one of whose commands was ended at this time."""
        await self._look_through(ended_at, server_id)
        await self._compare_attachments(server_id)

    async def _look_through(self, until: datetime, server_id: str | None = None) -> None:
        for image in await self._read.resources("image", where={"status": UNFINISHED}):
            owner = cast(Image, image).made_for
            with by_itself(image):
                due = _is_due(image, until, owner, server_id) and not await self._wanted(owner, image.id)
                # Only the log knows what became of it since: the read model may be behind.
                if due and await drop_unfilled(self._commands, self._settings, image.id, _context()):
                    log_.warning("an image that nobody fills is deleted", image_id=image.id, server_id=owner)
        for snapshot in await self._read.resources("volume_snapshot", where={"status": "creating"}):
            owner = cast(VolumeSnapshot, snapshot).made_by
            with by_itself(snapshot):
                if _is_due(snapshot, until, owner, server_id) and not await self._wanted(owner, snapshot.id):
                    log_.warning("a snapshot that nobody fills is in error", snapshot_id=snapshot.id, server_id=owner)
                    await spoil(self._files, snapshot.id, _context())
        for volume in await self._read.resources("volume", where={"status": "reserved"}):
            owner = cast(Volume, volume).reserved_for
            with by_itself(volume):
                if _is_due(volume, until, owner, server_id) and not await self._wanted(owner, volume.id):
                    log_.warning("a volume that nobody attaches is freed", volume_id=volume.id, server_id=owner)
                    await self._free(cast(Volume, volume))

    async def _compare_attachments(self, server_id: str) -> None:
        """A volume may say that it is attached to a server whose command was ended before it could say so too."""
        server = await self._commands.load_server(server_id)
        if server is not None:
            where = {"status": "in-use"}
            volumes = await self._read.resources("volume", project_id=server.project_id, where=where)
            await self.too_late.compare_attachments(server_id, cast(list[Volume], volumes))

    async def _wanted(self, server_id: str, thing_id: str) -> bool:
        """Whether what the server is at, by the log, is to fill this image or snapshot, or to take this volume."""
        server = await self._commands.load_server(server_id)
        return server is not None and thing_id in _at_work_on(server)

    async def _free(self, volume: Volume) -> None:
        free = partial(rules.unreserve, token=volume.reservation)
        await self._commands.update("volume", volume.id, {}, _context(), verb="unreserve", check=free)


def _is_due(thing: Resource, until: datetime, owner: str, server_id: str | None) -> bool:
    """Whether a thing was made for this server (None: for any), and last changed by that time."""
    assert thing.updated_at is not None
    return bool(owner) and server_id in (None, owner) and thing.updated_at <= until


def _at_work_on(server: Server) -> set[str]:
    """The ids of what its operation fills or takes, and of what one that a reset ended has not given back yet."""
    going = () if server.operation is None else ((server.operation.command, server.operation.params),)
    owed = ((one.command, one.params) for one in server.owed)
    return {id_ for command, params in (*going, *owed) for id_ in _named_in(server, command, params)}


def _named_in(server: Server, command: str, params: dict[str, Any]) -> Iterator[str]:
    named = (params.get("image_id"), params.get("volume", {}).get("id"), params.get("new", {}).get("id"))
    yield from (id_ for id_ in named if id_ is not None)
    if command == "create":
        yield from (one.volume_id for one in server.block_devices)
    if command == "create-image":
        yield from (snapshot_of(params["image_id"], one.volume_id) for one in server.volumes)
    else:
        yield from (one["snapshot_id"] for one in params.get("snapshots", ()))


def _context() -> CommandContext:
    return CommandContext(SERVICE, f"req-{uuid4()}")
