"""The steps of workflows that concern images: one that a server's agent fills, one that it comes back from, backups.

An image that a server is to fill is there, `queued`, when the command is accepted; from the moment its data is on its
way it is `saving`, and `active` when that is whole. What fails is `killed`, and gone at once, as Nova leaves none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from commands.context import CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from commands.of_server import OfServer
from commands.progress import Tell, told
from commands.settings import CommandSettings
from domain import images
from domain.errors import NotFound
from domain.resources import Image

CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ImageSteps(OfServer):
    """What the steps of one server need."""

    commands: Commands
    read: Lookup
    settings: CommandSettings

    @property
    def image_id(self) -> str:
        return str(self.operation.params["image_id"])


async def begin_image(steps: ImageSteps) -> dict[str, Any]:
    """The agent is about to write its data."""
    await steps.commands.update("image", steps.image_id, {}, steps.context, verb="save", check=images.begin_saving)
    return {}


async def publish_image(steps: ImageSteps) -> dict[str, Any]:
    """The agent has written the file: measure it, and let the image be used."""
    path = steps.settings.images_dir / steps.image_id
    async with told(steps.commands, steps.server, "upload image") as tell:
        size, md5, sha512 = await asyncio.to_thread(_digest, path, tell)
    found = {
        "status": "active",
        "size": size,
        "checksum": md5,
        "os_hash_algo": "sha512",
        "os_hash_value": sha512,
        "disk_format": "qcow2",
        "container_format": "bare",
    }
    try:
        await steps.commands.update("image", steps.image_id, found, steps.context, verb="activate")
    except NotFound:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        raise
    return {}


def _digest(path: Path, tell: Tell) -> tuple[int, str, str]:
    if not path.exists():  # a driver without real disks (simulated, test) has nothing to keep
        path.write_bytes(b"")
    md5, sha512 = hashlib.md5(usedforsecurity=False), hashlib.sha512()
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            md5.update(chunk)
            sha512.update(chunk)
            done += len(chunk)
            tell(100 * done / size)
    return size, md5.hexdigest(), sha512.hexdigest()


async def drop_image(commands: Commands, settings: CommandSettings, image_id: str, context: CommandContext) -> None:
    """Delete an image and its file; one that is gone already is no error. One that was to be filled says so first."""
    with contextlib.suppress(NotFound):
        await commands.update("image", image_id, {}, context, verb="fail", check=images.cut_off)
        await commands.delete("image", image_id, context)
    await asyncio.to_thread((settings.images_dir / image_id).unlink, missing_ok=True)


async def drop_unfilled(commands: Commands, settings: CommandSettings, image_id: str, context: CommandContext) -> bool:
    """As `drop_image`, of one that nobody fills any more. False: it was filled meanwhile, or is gone, and stays so."""
    with contextlib.suppress(NotFound):
        found = await commands.update("image", image_id, {}, context, verb="fail", check=images.cut_off)
        if cast(Image, found).status == "killed":
            await drop_image(commands, settings, image_id, context)
            return True
    return False


async def discard_image(steps: ImageSteps) -> dict[str, Any]:
    if steps.operation.params.get("image_id"):
        await drop_image(steps.commands, steps.settings, steps.image_id, steps.context)
    return {}


async def delete_shelved_image(steps: ImageSteps) -> dict[str, Any]:
    if steps.server.shelved_image_id:
        await drop_image(steps.commands, steps.settings, steps.server.shelved_image_id, steps.context)
    return {}


async def find_shelved_image(steps: ImageSteps) -> dict[str, Any]:
    image_id = steps.server.shelved_image_id
    image = await steps.commands.load("image", image_id or "")
    if not isinstance(image, Image) or image.status != "active":
        raise NotFound(
            f"Image {image_id} could not be found.",
            hint="The image made by shelve was deleted: the server cannot come back from it.",
        )
    return {}


async def rotate_backups(steps: ImageSteps) -> dict[str, Any]:
    """Delete the oldest backups of this kind beyond the number to keep."""
    server, params = steps.server, steps.operation.params
    keep, kind = int(params["rotation"]), params["backup_type"]
    found = [cast(Image, one) for one in await steps.read.resources("image", project_id=server.project_id)]
    backups = [
        one
        for one in found
        if one.properties.get("backup_type") == kind
        and one.properties.get("instance_uuid") == server.id
        and (one.status == "active" or one.id == steps.image_id)
    ]
    backups.sort(key=lambda one: (str(one.created_at), one.id), reverse=True)
    for old in backups[keep:]:
        await drop_image(steps.commands, steps.settings, old.id, steps.context)
    return {}


STEPS = {
    step.__name__: step
    for step in (
        begin_image,
        publish_image,
        discard_image,
        delete_shelved_image,
        find_shelved_image,
        rotate_backups,
    )
}
