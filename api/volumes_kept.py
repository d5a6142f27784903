"""Giving a command together with a volume kept for its server: reserved before, given back when it is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from commands import disks
from commands.context import CommandContext
from commands.handler import Commands
from domain import volumes
from domain.errors import Forbidden, NotFound, Rejected
from domain.resources import Volume
from domain.server import Server, VolumeAttachment

LETTERS = "bcdefghijklmnopqrstuvwxyz"


@asynccontextmanager
async def kept(
    commands: Commands, volume_id: str, server_id: str, token: str, context: CommandContext
) -> AsyncIterator[Volume]:
    """The volume is reserved for the server; a refusal inside gives it back. Raises `Rejected` when it is not free.

    After a failure of ours the command may have been accepted all the same: if not, the conductor frees the volume.
    """
    keep = partial(volumes.reserve, server_id=server_id, token=token)
    held = await commands.update("volume", volume_id, {}, context, verb="reserve", check=keep)
    try:
        yield cast(Volume, held)
    except Rejected as rejected:
        if rejected.code < 500:
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
            await stack.enter_async_context(kept(commands, volume_id, server_id, server_id, context))
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


def next_device(server: Server) -> str:
    """The first name that no disk of the server has."""
    used = {volume.device for volume in server.volumes} | {server.root_device_name}
    free = next((f"/dev/vd{letter}" for letter in LETTERS if f"/dev/vd{letter}" not in used), None)
    if free is None:
        raise Forbidden(
            f"The maximum allowed number of disk devices ({len(LETTERS) + 1}) to attach to a single instance has been "
            "exceeded.",
            hint="Detach a volume first.",
        )
    return free
