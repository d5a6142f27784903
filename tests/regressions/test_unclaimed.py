"""An image to be filled and a reserved volume whose command never came do not wait for it for ever.

The API makes or reserves them first and gives the command then; its process or NATS may be killed in between.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventlog.nats_server import EmbeddedNats
from projections.projector import Projector
from tests.system import WAIT_SECONDS, System, context


async def image_for(system: System, server_id: str, **fields: Any) -> str:
    image = await system.commands.create("image", {"name": "made", "made_for": server_id} | fields, context())
    return image.id


async def volume_for(system: System, server_id: str) -> str:
    reserved = {"status": "reserved", "reserved_for": server_id, "reservation": "attachment-1"}
    volume = await system.commands.create("volume", {"name": "disk", "project_id": "demo"} | reserved, context())
    return volume.id


async def status(system: System, kind: str, id_: str) -> str | None:
    found: Any = await system.commands.load(kind, id_)
    return None if found is None else found.status


async def test_what_nobody_claims_is_freed_and_what_somebody_works_on_is_left(
    own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    hangs = {"latency": {"snapshot": "hang"}}
    async with System.open(own_nats, tmp_path, driver_options=hangs, unclaimed_seconds=0.5) as system:
        server = await system.create()
        await system.stop_conductor()  # nobody sweeps before the command is given, however long that takes
        filled = await image_for(system, server.id)
        params = {"name": "made", "metadata": {}, "properties": {}, "image_id": filled}
        await system.commands.server("create-image", server.id, params, context())
        await system.start_conductor()
        async with asyncio.timeout(WAIT_SECONDS):
            while await status(system, "image", filled) != "saving":
                await asyncio.sleep(0.05)
        image, somebodys = await image_for(system, server.id), await image_for(system, "")
        volume = await volume_for(system, server.id)

        async def freed() -> bool:
            return (await status(system, "image", image), await status(system, "volume", volume)) == (None, "available")

        async with asyncio.timeout(60):
            while not await freed():
                await asyncio.sleep(0.05)
        assert await status(system, "image", filled) == "saving"
        assert await status(system, "image", somebodys) == "queued"
        await system.do("force-delete", server.id)


async def test_a_delete_frees_the_volume_that_was_being_attached(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, driver_options={"latency": {"attach_volume": "hang"}}) as system:
        server = await system.create()
        volume = await volume_for(system, server.id)
        spec = {"id": volume, "path": str(tmp_path / volume), "device": "/dev/vdb"}
        await system.commands.server(
            "attach-volume", server.id, {"volume": spec, "attachment_id": "attachment-1"}, context()
        )
        await system.do("force-delete", server.id)
        await system.quiet()
        assert await status(system, "volume", volume) == "available"


async def test_what_was_made_after_a_command_was_ended_is_left_to_the_next(
    own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        old, left = await volume_for(system, server.id), await image_for(system, server.id)
        ended_at = datetime.now(UTC)
        new, filled = await volume_for(system, server.id), await image_for(system, server.id)
        await system.conductor.sweep.look_after(server.id, ended_at)
        assert [await status(system, "volume", one) for one in (old, new)] == ["available", "reserved"]
        assert [await status(system, "image", one) for one in (left, filled)] == [None, "queued"]


async def test_what_can_not_be_freed_keeps_nothing_else_from_it(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        images = [await image_for(system, server.id) for _ in range(2)]
        volume = await volume_for(system, server.id)
        for image in images:
            (system.settings.images_dir / image).mkdir()  # the file of an image could be removed
        await system.conductor.sweep.look_after(server.id, datetime.now(UTC))
        assert [await status(system, "image", one) for one in images] == [None, None]
        assert await status(system, "volume", volume) == "available"


async def test_what_was_filled_while_the_read_model_stood_still_stays(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, visible_timeout=0.2) as system:
        server = await system.create()
        filled, left = await image_for(system, server.id), await image_for(system, server.id)
        assert await system.read.wait_for(await system.log.last_position(), WAIT_SECONDS)
        await system.projector.stop()
        await system.commands.update("image", filled, {"status": "active"}, context(), verb="activate")
        seen = await system.read.resources("image", where={"status": "queued"})
        assert {one.id for one in seen} == {filled, left}
        await system.conductor.sweep.look_after(server.id, datetime.now(UTC))
        assert [await status(system, "image", one) for one in (filled, left)] == ["active", None]
        system.projector = await Projector.start(system.log, f"sqlite:///{system.directory / 'read.db'}")
