"""What is kept for a command that never came, or that was ended by another: an image to be filled, a volume.

The API makes or reserves such a thing, notes the server that it is for, and gives the command. Its process or NATS may
die between the two, and a delete or a reset may end the command later: then nobody would ever finish or free the
thing. The conductor does, from what the log says of the server: at once when it saw the command being ended, else
when the thing is older than `unclaimed_seconds`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import cast
from uuid import uuid4

import structlog

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from commands.settings import CommandSettings
from commands.steps import drop_image
from domain import volumes as rules
from domain.resources import Image, Resource, Volume
from domain.server import Server

log_ = structlog.get_logger(__name__)

EVERY_SECONDS = 10.0
UNFINISHED = ["queued", "saving"]


class Sweep:
    def __init__(self, commands: Commands, read: Lookup, settings: CommandSettings) -> None:
        self._commands = commands
        self._read = read
        self._settings = settings

    async def run(self) -> None:
        """Look again and again. The boundary of what looking needs: what can not be done now is done next time."""
        while True:
            await asyncio.sleep(min(EVERY_SECONDS, self._settings.unclaimed_seconds))
            try:
                await self.look()
            except Exception as error:
                log_.warning("unclaimed things are looked for later", error=repr(error))

    async def look(self, server_id: str | None = None) -> None:
        """Free what nobody will claim: of all servers what is old enough, or of one server everything."""
        for image in await self._read.resources("image", where={"status": UNFINISHED}):
            owner = cast(Image, image).made_for
            if self._is_due(image, owner, server_id) and not await self._wanted(owner, image.id):
                log_.warning("an image that nobody fills is deleted", image_id=image.id, server_id=owner)
                await drop_image(self._commands, self._settings, image.id, _context())
        for volume in await self._read.resources("volume", where={"status": "reserved"}):
            owner = cast(Volume, volume).reserved_for
            if self._is_due(volume, owner, server_id) and not await self._wanted(owner, volume.id):
                log_.warning("a volume that nobody attaches is freed", volume_id=volume.id, server_id=owner)
                await self._free(cast(Volume, volume))
        if server_id is not None:
            await self._compare_attachments(server_id)

    async def _compare_attachments(self, server_id: str) -> None:
        """A volume may say that it is attached to a server whose command was ended before it could say so too."""
        server = await self._commands.load_server(server_id)
        if server is None or server.operation is not None:
            return
        held = {one.volume_id for one in server.volumes}
        volumes = await self._read.resources("volume", project_id=server.project_id, where={"status": "in-use"})
        for volume in cast(list[Volume], volumes):
            if volume.id not in held and any(one["server_id"] == server_id for one in volume.attachments):
                log_.warning(
                    "a volume that its server does not have is freed", volume_id=volume.id, server_id=server_id
                )
                detached = partial(rules.detached, server_id=server_id)
                await self._commands.update("volume", volume.id, {}, _context(), verb="detach", check=detached)

    def _is_due(self, thing: Resource, owner: str, server_id: str | None) -> bool:
        if server_id is not None:
            return owner == server_id
        assert thing.updated_at is not None
        return bool(owner) and (datetime.now(UTC) - thing.updated_at).total_seconds() > self._settings.unclaimed_seconds

    async def _wanted(self, server_id: str, thing_id: str) -> bool:
        """Whether what the server is at, by the log, is to fill this image or to take this volume."""
        server = await self._commands.load_server(server_id)
        return server is not None and thing_id in _at_work_on(server)

    async def _free(self, volume: Volume) -> None:
        free = partial(rules.unreserve, token=volume.reservation)
        await self._commands.update("volume", volume.id, {}, _context(), verb="unreserve", check=free)


def _at_work_on(server: Server) -> set[str]:
    operation = server.operation
    if operation is None:
        return set()
    params = operation.params
    begun_with = [one.volume_id for one in server.block_devices] if operation.command == "create" else []
    named = (params.get("image_id"), params.get("volume", {}).get("id"), params.get("new", {}).get("id"))
    return {*begun_with, *(id_ for id_ in named if id_ is not None)}


def _context() -> CommandContext:
    return CommandContext(SERVICE, f"req-{uuid4()}")
