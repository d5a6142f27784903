"""Giving a command together with a volume kept for its server: reserved before, given back when it is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from commands import disks
from commands.context import CommandContext
from commands.handler import Commands
from domain import volumes
from domain.errors import NotFound, Rejected
from domain.resources import Volume
from domain.server import VolumeAttachment


@asynccontextmanager
async def kept(
    commands: Commands,
    volume_id: str,
    server_id: str,
    token: str,
    context: CommandContext,
    reserve: Callable[[Volume, str, str], volumes.Changes] = volumes.reserve,
) -> AsyncIterator[Volume]:
    """The volume is reserved for the server; a refusal inside gives it back. Raises `Rejected` when it is not free.

    After a failure of ours the command may have been accepted all the same: if not, the conductor frees the volume.
    """
    taken = False

    def keep(volume: Volume) -> dict[str, Any]:
        nonlocal taken
        changes = reserve(volume, server_id, token)
        taken = bool(changes)
        return changes

    held = await commands.update("volume", volume_id, {}, context, verb="reserve", check=keep)
    try:
        yield cast(Volume, held)
    except Rejected as rejected:
        if taken and rejected.code < 500:  # else it is kept for an earlier request, of which this is a repeat
            give_back = partial(volumes.unreserve, token=token)
            with suppress(NotFound):
                await commands.update("volume", volume_id, {}, context, verb="unreserve", check=give_back)
        raise


@asynccontextmanager
async def all_kept(
    commands: Commands, volume_ids: Iterable[str], server_id: str, context: CommandContext
) -> AsyncIterator[None]:
    """The same of all volumes that a new server begins with."""
    async with AsyncExitStack() as stack:
        for volume_id in volume_ids:
            held = kept(commands, volume_id, server_id, server_id, context, volumes.reserve_for_new)
            await stack.enter_async_context(held)
        yield


def spec_of(volume: Volume, directory: Path, device: str | None) -> dict[str, Any]:
    """What an agent has to know of a volume."""
    return {
        "id": volume.id,
        "path": str(disks.volume_path(directory, volume.id)),
        "disk_format": volume.disk_format,
        "device": device,
        "size_gb": volume.size_gb,
    }


def spec_of_attached(attachment: VolumeAttachment) -> dict[str, Any]:
    return {
        "id": attachment.volume_id,
        "path": attachment.path,
        "disk_format": attachment.disk_format,
        "device": attachment.device,
        "size_gb": attachment.size_gb,
    }
