"""What is kept for a command that never came, or that was ended by another: an image to be filled, a volume.

The API makes or reserves such a thing, notes the server that it is for, and gives the command. Its process or NATS may
die between the two, and a delete or a reset may end the command later: then nobody would ever finish or free the
thing. The conductor does, from what the log says of the server: at once when it saw the command being ended, else
when the thing is older than `unclaimed_seconds`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import structlog

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from commands.settings import CommandSettings
from commands.steps import detached, drop_image
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
            if self._is_due(image, owner, server_id) and not await self._wanted(owner, image_id=image.id):
                log_.warning("an image that nobody fills is deleted", image_id=image.id, server_id=owner)
                await drop_image(self._commands, self._settings, image.id, _context())
        for volume in await self._read.resources("volume", where={"status": "reserved"}):
            owner = cast(Volume, volume).reserved_for
            if self._is_due(volume, owner, server_id) and not await self._wanted(owner, volume_id=volume.id):
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
                await self._commands.update("volume", volume.id, {}, _context(), verb="detach", check=detached(server))

    def _is_due(self, thing: Resource, owner: str, server_id: str | None) -> bool:
        if server_id is not None:
            return owner == server_id
        assert thing.updated_at is not None
        return bool(owner) and (datetime.now(UTC) - thing.updated_at).total_seconds() > self._settings.unclaimed_seconds

    async def _wanted(self, server_id: str, **thing: str) -> bool:
        """Whether what the server is at, by the log, is to fill this image or to attach this volume."""
        server = await self._commands.load_server(server_id)
        return server is not None and thing.items() <= _at_work_on(server).items()

    async def _free(self, volume: Volume) -> None:
        def still(state: Any) -> dict[str, Any]:
            same = (state.status, state.reservation) == (volume.status, volume.reservation)
            return {"status": "available", "reserved_for": "", "reservation": ""} if same else {}

        await self._commands.update("volume", volume.id, {}, _context(), verb="unreserve", check=still)


def _at_work_on(server: Server) -> dict[str, str]:
    params = server.operation.params if server.operation is not None else {}
    found = {"image_id": params.get("image_id"), "volume_id": params.get("volume", {}).get("id")}
    return {what: id_ for what, id_ in found.items() if id_ is not None}


def _context() -> CommandContext:
    return CommandContext(SERVICE, f"req-{uuid4()}")
