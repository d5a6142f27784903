"""The steps of workflows that concern volumes: made for a server, plugged in and out, swapped, kept as snapshots.

What may happen to a volume is `domain.volumes`' word; here it is asked of the newest state and appended. A volume that
is gone is nothing to take back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from uuid import NAMESPACE_OID, uuid5

import msgspec

from commands import disks
from commands.context import CommandContext
from commands.of_server import OfServer
from commands.progress import told
from commands.volume_files import VolumeFiles, least_gb, of_image
from domain import block_devices, images, volumes
from domain.decide import StepOutcome
from domain.errors import Conflict, Invalid, NotFound
from domain.resources import Image, Volume, VolumeSnapshot
from domain.server import BlockDevice, Server, VolumeAttachment


@dataclass(frozen=True, kw_only=True)
class VolumeSteps(OfServer):
    """What the steps of one server need."""

    files: VolumeFiles

    async def change(self, verb: str, volume_id: str, decide: Callable[[Any], volumes.Changes]) -> Volume:
        return cast(
            Volume, await self.files.commands.update("volume", volume_id, {}, self.context, verb=verb, check=decide)
        )

    async def load(self, volume_id: str) -> Volume | None:
        return cast("Volume | None", await self.files.commands.load("volume", volume_id))

    def fact(self, attachment: VolumeAttachment) -> dict[str, Any]:
        """An attachment as the volume keeps it."""
        return {
            "id": attachment.id,
            "attachment_id": attachment.id,
            "volume_id": attachment.volume_id,
            "server_id": self.server.id,
            "device": attachment.device,
            "host_name": self.server.host,
        }

    async def hold(self, attachment: VolumeAttachment) -> None:
        """The guest has it, and the volume says so."""
        await self.change("attach", attachment.volume_id, partial(volumes.attached, attachment=self.fact(attachment)))

    async def let_go(self, volume_id: str) -> Volume | None:
        """Neither attached to the server nor kept for it; None where it is gone."""
        try:
            return await self.change("detach", volume_id, partial(volumes.detached, server_id=self.server.id))
        except NotFound:
            return None

    async def drop(self, volume_id: str) -> None:
        """Delete a volume that goes with its server. One that has snapshots stays, as Cinder would not delete it."""
        if await self.files.read.resources("volume_snapshot", where={"volume_id": volume_id}):
            return
        with contextlib.suppress(NotFound, Invalid):
            await self.change("begin-delete", volume_id, partial(volumes.begin_delete, force=True))
            await self.files.delete("volume", volume_id, self.context)


# --- a new server's volumes -------------------------------------------------------------------------------------------


async def create_volumes(steps: VolumeSteps) -> dict[str, Any]:
    """Every volume that the server was asked for: made where it has to be, and about to be attached."""
    server = steps.server
    devices = block_devices.devices_of_new(server)
    attachments = [
        await _take(steps, wanted, device) for wanted, device in zip(server.block_devices, devices, strict=True)
    ]
    return {"volumes": tuple(attachments)}


async def _take(steps: VolumeSteps, wanted: BlockDevice, device: str) -> VolumeAttachment:
    server = steps.server
    if wanted.made_here:
        volume = await _made(steps, wanted)
    else:
        decide = partial(volumes.begin_attach, server_id=server.id)
        volume = await steps.change("begin-attach", wanted.volume_id, decide)
    return VolumeAttachment(
        id=str(uuid5(NAMESPACE_OID, f"{server.id}/{wanted.volume_id}")),
        volume_id=volume.id,
        device=device,
        delete_on_termination=wanted.delete_on_termination,
        tag=wanted.tag,
        boot_index=wanted.boot_index,
        path=str(steps.files.volume_path(volume.id)),
        disk_format=volume.disk_format,
        size_gb=volume.size_gb,
    )


async def _made(steps: VolumeSteps, wanted: BlockDevice) -> Volume:
    volume = await steps.load(wanted.volume_id)
    if volume is None:
        fields = await _fields(steps, wanted)
        commands = steps.files.commands
        volume = cast(Volume, await commands.create("volume", fields, steps.context, id=wanted.volume_id))
    if volume.status != "creating":
        return volume
    async with told(steps.files.commands, steps.server, "copy volume") as tell:
        await steps.files.make(volume, tell)
        return await steps.files.made(volume, {"status": "attaching"}, steps.context)


async def _fields(steps: VolumeSteps, wanted: BlockDevice) -> dict[str, Any]:
    server = steps.server
    fields: dict[str, Any] = {
        "project_id": server.project_id,
        "user_id": server.user_id,
        "status": "creating",
        "reserved_for": server.id,
        "size_gb": wanted.size_gb,
        "disk_format": disks.disk_format(),
    }
    if wanted.source_type == "image":
        image = await steps.files.read.resource("image", wanted.source_id or "")
        if not isinstance(image, Image) or image.deleted:
            raise NotFound(f"Image {wanted.source_id} could not be found.", hint="It was deleted meanwhile.")
        fields |= of_image(image) | {"size_gb": max(wanted.size_gb, least_gb(image))}
    elif wanted.source_type == "snapshot":
        snapshot = await steps.files.read.resource("volume_snapshot", wanted.source_id or "")
        if not isinstance(snapshot, VolumeSnapshot) or snapshot.deleted:
            raise NotFound(f"Snapshot {wanted.source_id} could not be found.", hint="It was deleted meanwhile.")
        fields |= {"snapshot_id": snapshot.id, "size_gb": max(wanted.size_gb, snapshot.size_gb)}
        original = await steps.files.read.resource("volume", snapshot.volume_id)
        if isinstance(original, Volume):
            fields |= {"bootable": original.bootable, "image_metadata": original.image_metadata}
    return fields


async def record_volumes(steps: VolumeSteps) -> dict[str, Any]:
    """The guest runs with them."""
    for attachment in steps.server.volumes:
        await steps.hold(attachment)
    return {}


async def delete_volumes(steps: VolumeSteps) -> dict[str, Any]:
    """A build that failed: what was made for it goes, what was there before is given back."""
    for wanted in steps.server.block_devices:
        await steps.let_go(wanted.volume_id)
        if wanted.made_here:
            await steps.drop(wanted.volume_id)
    return {"volumes": ()}


async def detach_volumes(steps: VolumeSteps) -> dict[str, Any]:
    """The server is deleted: its volumes are free again, or go with it."""
    server = steps.server
    for attachment in server.volumes:
        await steps.let_go(attachment.volume_id)
        if attachment.replaced_by:
            await steps.let_go(attachment.replaced_by)
        if attachment.delete_on_termination:
            await steps.drop(attachment.volume_id)
    for wanted in server.block_devices:
        volume = await steps.load(wanted.volume_id)
        if volume is not None and volume.reserved_for == server.id:  # a build that was cut off: nobody else knows of it
            await steps.let_go(wanted.volume_id)
            if wanted.made_here:
                await steps.drop(wanted.volume_id)
    return {"volumes": ()}


# --- plugged in and out -----------------------------------------------------------------------------------------------


async def begin_attach(steps: VolumeSteps) -> dict[str, Any]:
    volume_id = steps.operation.params["volume"]["id"]
    await steps.change("begin-attach", volume_id, partial(volumes.begin_attach, server_id=steps.server.id))
    return {}


async def record_volume(steps: VolumeSteps) -> dict[str, Any]:
    """The guest has the disk: the server and the volume say so."""
    params = steps.operation.params
    known = steps.server.attachment(params["volume"]["id"])
    if known is None:
        raise Conflict(f"Volume {params['volume']['id']} is not of this server any more", hint="Attach it again.")
    device = params.get("result", {}).get("device") or known.device
    attachment = msgspec.structs.replace(known, device=device)
    await steps.hold(attachment)
    return {"volumes": tuple(attachment if one is known else one for one in steps.server.volumes)}


async def release_volume(steps: VolumeSteps) -> dict[str, Any]:
    volume_id = steps.operation.params["volume"]["id"]
    await steps.let_go(volume_id)
    return _without(steps.server, volume_id)


async def begin_detach(steps: VolumeSteps) -> dict[str, Any]:
    await steps.change("begin-detach", steps.operation.params["volume_id"], volumes.begin_detach)
    return {}


async def roll_detaching(steps: VolumeSteps) -> dict[str, Any]:
    with contextlib.suppress(NotFound):
        decide = partial(volumes.roll_detaching, server_id=steps.server.id)
        await steps.change("roll-detaching", steps.operation.params["volume_id"], decide)
    return {}


async def forget_volume(steps: VolumeSteps) -> dict[str, Any]:
    volume_id = steps.operation.params["volume_id"]
    await steps.let_go(volume_id)
    return _without(steps.server, volume_id)


def _without(server: Server, volume_id: str) -> dict[str, Any]:
    return {"volumes": tuple(one for one in server.volumes if one.volume_id != volume_id)}


# --- one for another --------------------------------------------------------------------------------------------------


def _swapped(steps: VolumeSteps) -> tuple[str, dict[str, Any]]:
    return steps.operation.params["old"]["id"], steps.operation.params["new"]


async def begin_swap(steps: VolumeSteps) -> dict[str, Any]:
    old_id, new = _swapped(steps)
    await steps.change("begin-attach", new["id"], partial(volumes.begin_attach, server_id=steps.server.id))
    await steps.change("begin-detach", old_id, volumes.begin_detach)
    return {}


async def record_swap(steps: VolumeSteps) -> dict[str, Any]:
    """The guest goes on with the new volume; the old one is free, with what it held."""
    old_id, new = _swapped(steps)
    known = steps.server.attachment(old_id)
    if known is None:
        raise Conflict(f"Volume {old_id} is not of this server any more")
    attachment = msgspec.structs.replace(
        known,
        volume_id=new["id"],
        path=new["path"],
        disk_format=new.get("disk_format", "raw"),
        size_gb=new.get("size_gb", 0),
        replaced_by=None,
    )
    await steps.hold(attachment)
    await steps.let_go(old_id)
    return {"volumes": tuple(attachment if one is known else one for one in steps.server.volumes)}


async def release_swap(steps: VolumeSteps) -> dict[str, Any]:
    old_id, new = _swapped(steps)
    await steps.let_go(new["id"])
    with contextlib.suppress(NotFound):
        await steps.change("roll-detaching", old_id, partial(volumes.roll_detaching, server_id=steps.server.id))
    kept = (msgspec.structs.replace(one, replaced_by=None) for one in steps.server.volumes)
    return {"volumes": tuple(kept)}


# --- larger -----------------------------------------------------------------------------------------------------------


async def extend_file(steps: VolumeSteps) -> dict[str, Any]:
    """The server is on no host: nobody has the file open."""
    volume, size_gb = steps.operation.params["volume"], steps.operation.params["size_gb"]
    await disks.grow(steps.files.volume_path(volume["id"]), volume.get("disk_format", "raw"), size_gb)
    return {}


async def record_extended(steps: VolumeSteps) -> dict[str, Any]:
    volume_id, size_gb = steps.operation.params["volume"]["id"], steps.operation.params["size_gb"]
    await steps.change("extend", volume_id, partial(volumes.extended, size_gb=size_gb))
    grown = (
        msgspec.structs.replace(one, size_gb=size_gb) if one.volume_id == volume_id else one
        for one in steps.server.volumes
    )
    return {"volumes": tuple(grown)}


async def roll_extending(steps: VolumeSteps) -> dict[str, Any]:
    with contextlib.suppress(NotFound):
        await steps.change("fail-extend", steps.operation.params["volume"]["id"], volumes.not_extended)
    return {}


# --- copied while in use ----------------------------------------------------------------------------------------------


async def copy_snapshot(steps: VolumeSteps) -> dict[str, Any]:
    """The server is on no host: nobody writes to the volume."""
    for one in steps.operation.params["snapshots"]:
        snapshot = cast(VolumeSnapshot, await steps.files.read.resource("volume_snapshot", one["snapshot_id"]))
        async with told(steps.files.commands, steps.server, "copy volume") as tell:
            await steps.files.make_snapshot(snapshot, tell)
    return {}


async def record_snapshot(steps: VolumeSteps) -> dict[str, Any]:
    for one in steps.operation.params["snapshots"]:
        await steps.files.commands.update(
            "volume_snapshot", one["snapshot_id"], {}, steps.context, verb="make", check=volumes.snapshot_made
        )
    return {}


async def spoil_snapshot(steps: VolumeSteps) -> dict[str, Any]:
    """As in Cinder it stays, in error, for its owner to see and to delete; its file does not."""
    for one in steps.operation.params["snapshots"]:
        await spoil(steps.files, one["snapshot_id"], steps.context)
    return {}


async def spoil(files: VolumeFiles, snapshot_id: str, context: CommandContext) -> None:
    try:
        spoilt = await files.commands.update(
            "volume_snapshot", snapshot_id, {}, context, verb="fail", check=volumes.snapshot_spoilt
        )
        keeps_file = cast(VolumeSnapshot, spoilt).status != "error"
    except NotFound:  # an administrator deleted it meanwhile
        keeps_file = False
    if not keeps_file:
        await asyncio.to_thread(disks.remove, files.snapshot_path(snapshot_id))


# --- an image made of volumes -----------------------------------------------------------------------------------------


def snapshot_of(image_id: str, volume_id: str) -> str:
    """The id of the snapshot of a volume that an image is to be made of."""
    return str(uuid5(NAMESPACE_OID, f"{image_id}/{volume_id}"))


async def create_snapshots(steps: VolumeSteps) -> StepOutcome:
    """A snapshot of every volume, there and still empty: the agent fills them all in one instant."""
    server, operation = steps.server, steps.operation
    image_id, commands = operation.params["image_id"], steps.files.commands
    await commands.update("image", image_id, {}, steps.context, verb="save", check=images.begin_saving)
    found = []
    for attachment in server.volumes:
        snapshot_id = snapshot_of(image_id, attachment.volume_id)
        fields = {
            "name": f"snapshot for {operation.params['name']}",
            "project_id": server.project_id,
            "user_id": operation.user_id,
            "volume_id": attachment.volume_id,
            "size_gb": attachment.size_gb,
            "status": "creating",
            "made_by": server.id,
        }
        if await commands.load("volume_snapshot", snapshot_id) is None:
            await commands.create("volume_snapshot", fields, steps.context, id=snapshot_id)
        found.append(
            {
                "snapshot_id": snapshot_id,
                "volume_id": attachment.volume_id,
                "path": str(steps.files.snapshot_path(snapshot_id)),
                "size_gb": attachment.size_gb,
                "boot_index": attachment.boot_index,
                "device": attachment.device,
                "delete_on_termination": attachment.delete_on_termination,
                "tag": attachment.tag,
            }
        )
    await asyncio.to_thread(steps.files.snapshot_path("x").parent.mkdir, parents=True, exist_ok=True)
    return StepOutcome(operation.step, True, details={"snapshots": found})


async def publish_snapshots(steps: VolumeSteps) -> dict[str, Any]:
    """The snapshots are whole: they and the image that is made of them may be used."""
    params, commands = steps.operation.params, steps.files.commands
    snapshots = params["result"]["snapshots"]
    for one in snapshots:
        await commands.update(
            "volume_snapshot", one["snapshot_id"], {"status": "available"}, steps.context, verb="make"
        )
    described = {
        "block_device_mapping": block_devices.image_property(snapshots),
        "bdm_v2": "True",
        "root_device_name": steps.server.root_device_name or "/dev/vda",
    }

    def activate(image: Any) -> dict[str, Any]:
        return {"status": "active", "size": 0, "properties": image.properties | described}

    await commands.update("image", params["image_id"], {}, steps.context, verb="activate", check=activate)
    return {}


async def discard_snapshots(steps: VolumeSteps) -> dict[str, Any]:
    """Neither the snapshots nor the image that was to be made of them stay."""
    image_id = steps.operation.params["image_id"]
    for attachment in steps.server.volumes:
        snapshot_id = snapshot_of(image_id, attachment.volume_id)
        with contextlib.suppress(NotFound):
            await steps.files.delete("volume_snapshot", snapshot_id, steps.context)
    with contextlib.suppress(NotFound):
        await steps.files.commands.update("image", image_id, {}, steps.context, verb="fail", check=images.cut_off)
        await steps.files.commands.delete("image", image_id, steps.context)
    return {}


# --- a root volume filled anew ----------------------------------------------------------------------------------------


async def record_content(steps: VolumeSteps) -> dict[str, Any]:
    """The root volume holds another image now."""
    root = next(one for one in steps.server.volumes if one.boot_index == 0)
    image = await steps.files.read.resource("image", steps.operation.params["image"]["id"])
    if isinstance(image, Image):
        await steps.files.commands.update("volume", root.volume_id, of_image(image), steps.context, verb="reimage")
    return {}


async def came_too_late(control: str, steps: VolumeSteps, now: Server) -> None:
    """Give back what a step took for an operation that was over when it had it. `steps`: of that; `now`: after it."""
    params, asked = steps.operation.params, steps.server
    if control in ("create_volumes", "record_volumes"):
        for wanted in asked.block_devices:
            if now.attachment(wanted.volume_id) is None:
                await steps.let_go(wanted.volume_id)
                if wanted.made_here:
                    await steps.drop(wanted.volume_id)
    taken = {"begin_attach": "volume", "record_volume": "volume", "begin_swap": "new", "record_swap": "new"}
    if now.owed and control in ("record_volume", "record_swap"):
        return  # the guest has it until that is settled
    if control in taken and now.attachment(params[taken[control]]["id"]) is None:
        await steps.let_go(params[taken[control]]["id"])
    if control == "create_snapshots":
        await discard_snapshots(steps)
    if control == "copy_snapshot":
        await spoil_snapshot(steps)


STEPS = {
    step.__name__: step
    for step in (
        create_volumes,
        record_volumes,
        delete_volumes,
        detach_volumes,
        begin_attach,
        record_volume,
        release_volume,
        begin_detach,
        roll_detaching,
        forget_volume,
        begin_swap,
        record_swap,
        release_swap,
        extend_file,
        record_extended,
        roll_extending,
        copy_snapshot,
        record_snapshot,
        spoil_snapshot,
        create_snapshots,
        publish_snapshots,
        discard_snapshots,
        record_content,
    )
}
