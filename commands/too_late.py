"""What a step of the control plane took for an operation that was over when it had it.

A delete, a reset or a deadline ends an operation while a conductor is in the middle of a step of it. What follows gives
back what is there by then; what the step still takes, its conductor gives back itself (`Steps.came_too_late`). When
that one dies first, the log alone knows: a port, or a volume, says that it is of a server which does not have it and
is at nothing. Any conductor frees such a thing, when it has been so for `unclaimed_seconds`; what a user wrote into a
port stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import cast
from uuid import uuid4

import msgspec
import structlog

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.left_ports import unbind
from commands.lookup import Lookup
from commands.networking import release_port
from commands.one_by_one import by_itself
from commands.steps_volumes import VolumeSteps
from commands.volume_files import VolumeFiles
from domain import resources
from domain import volumes as rules
from domain.resources import Port, ResourceChange, Volume
from domain.server import Server

log_ = structlog.get_logger(__name__)


class TooLate:
    def __init__(self, commands: Commands, read: Lookup, files: VolumeFiles) -> None:
        self._commands = commands
        self._read = read
        self._files = files

    async def look(self, until: datetime) -> None:
        """Free what has been a server's since that time, and the server neither has nor will have."""
        for port in await self._read.ports_without_server(until):
            with by_itself(port):
                await self._free_port(port)
        attached: dict[str, list[Volume]] = {}
        for volume in await self._volumes(until):
            if volume.status in ("attaching", "creating") and volume.reserved_for:
                with by_itself(volume):
                    await self._free_volume(volume)
            for one in volume.attachments:
                attached.setdefault(one["server_id"], []).append(volume)
        for server_id, volumes in attached.items():
            await self.compare_attachments(server_id, volumes)

    async def _volumes(self, until: datetime) -> list[Volume]:
        """Those that are as they are since that time, by the log: a list of the read model is shorter."""
        newest = [one async for one in self._commands.log.scan_last("volume") if one.commit.meta.occurred_at <= until]
        volumes = [cast(Volume, resources.decode("volume", one.commit.state)) for one in newest]
        return [volume for volume in volumes if not volume.deleted]

    async def compare_attachments(self, server_id: str, volumes: Iterable[Volume]) -> None:
        """Free those of these volumes that say they are attached to a server which does not have them."""
        server = await self._at_rest(server_id)
        if server is None:
            return  # what a reset left to be settled is in the guest, perhaps
        for volume in volumes:
            attached = any(one["server_id"] == server_id for one in volume.attachments)
            if volume.status == "in-use" and attached and not _has(server, volume):
                with by_itself(volume):
                    await self._let_go(volume, server)

    async def _at_rest(self, server_id: str) -> Server | None:
        """The server by the log, if it is at nothing: it may be deleted."""
        server = await self._commands.load_server(server_id)
        return None if server is None or server.operation is not None or server.owed else server

    async def _free_port(self, seen: Port) -> None:
        server = await self._at_rest(seen.device_id)
        if server is None or any(one.port_id == seen.id for one in server.interfaces):
            return
        verb = await self._taken_by_a_step(seen, server)
        if verb is None:
            return
        log_.warning("a port that its server does not have is freed", port_id=seen.id, server_id=server.id)
        if verb == "create":
            await release_port(self._commands, seen.id, _context())
        else:
            await unbind(self._commands, server, seen.id, _context())

    async def _taken_by_a_step(self, seen: Port, server: Server) -> str | None:
        """By which verb a step took the port for this server; None where its user wrote the device, or it changed."""
        commits = await self._commands.log.read("port", seen.id)
        if not commits or commits[-1].commit.version != seen.version:
            return None
        for one in reversed(commits):
            event = one.commit.events[0]
            if "device_id" in msgspec.json.decode(event.data, type=ResourceChange).patch:
                by_step = one.commit.meta.causation_id.startswith(f"server:{server.id}:")
                return event.type.split(".")[1] if by_step else None
        return None

    async def _free_volume(self, volume: Volume) -> None:
        server = await self._at_rest(volume.reserved_for)
        if server is not None and not _has(server, volume):
            await self._let_go(volume, server)

    async def _let_go(self, volume: Volume, server: Server) -> None:
        def detached(state: Volume) -> rules.Changes:
            return rules.detached(state, server.id) if state.version == volume.version else {}

        log_.warning("a volume that its server does not have is freed", volume_id=volume.id, server_id=server.id)
        await self._commands.update("volume", volume.id, {}, _context(), verb="detach", check=detached)
        made_for_it = any(one.made_here and one.volume_id == volume.id for one in server.block_devices)
        if made_for_it and server.launched_at is None:  # of a build that was cut off: nobody else knows of it
            await VolumeSteps(files=self._files, server=server, context=_context()).drop(volume.id)


def _has(server: Server, volume: Volume) -> bool:
    return any(volume.id in (one.volume_id, one.replaced_by) for one in server.volumes)


def _context() -> CommandContext:
    return CommandContext(SERVICE, f"req-{uuid4()}")
