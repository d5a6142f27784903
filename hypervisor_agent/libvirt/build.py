"""Orders of a guest's beginning and end: create_disk, config_drive, spawn, rebuild, destroy and offload."""

from __future__ import annotations

import glob
import shutil
from pathlib import Path
from typing import Any

import msgspec

from domain.orders import GuestSpec, ImageSpec, VolumeSpec
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt import disks
from hypervisor_agent.libvirt.copying import Tell
from hypervisor_agent.libvirt.domain_xml import root_volume, with_devices
from hypervisor_agent.libvirt.record import GuestRecord
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]


async def create_disk(work: Work) -> Details:
    """The guest's directory and root disk. A disk that is there already stays: nothing else may have made it."""
    spec = adopt_spec(work)
    if root_volume(spec) is None and not work.files.disk.exists():
        with work.step("create root disk", 0, 99) as copied:
            await _fresh_disk(work, spec, copied)
    return {}


async def make_config_drive(work: Work) -> Details:
    spec = adopt_spec(work)
    with work.step("write config drive", 30):
        await work.describe(spec)
    return {}


async def spawn(work: Work) -> Details:
    """Define and start. The config drive is written even when the user asked for none: there is no metadata service."""
    spec = adopt_spec(work)
    if await work.guest.active():
        return {}
    await create_disk(work)
    if not work.files.config_drive.exists():
        await work.describe(spec)
    with work.step("define guest", 50):
        await work.prepare()
    with work.step("start guest", 60):
        await work.start()
    return {}


async def rebuild(work: Work) -> Details:
    """A fresh root disk from the order's image, and a start. Volumes and interfaces stay."""
    record = work.record
    with work.step("stop guest", 10):
        await work.guest.force_off()
    record.rescue = None
    record.spec = _merged(work.order.spec, record.spec)
    work.remember(record)
    work.files.rescue_disk.unlink(missing_ok=True)
    root, image = root_volume(record.spec), work.order.params.get("reimage")
    if root is None:
        with work.step("create root disk", 30, 60) as copied:
            await _fresh_disk(work, record.spec, copied)
        await work.remove_unused_images()
    elif image is not None:
        with work.step("fill root volume", 30, 60) as copied:
            await _fill(root, msgspec.convert(image, ImageSpec), copied)
    with work.step("define guest", 60):
        await work.prepare()
    with work.step("start guest", 70):
        await work.start()
    return {}


async def destroy(work: Work) -> Details:
    """Guest, disks and logs gone; its bridges too when it was the last on them."""
    with work.step("stop guest", 20):
        await work.guest.force_off()
    with work.step("remove guest", 60):
        await work.guest.undefine()
        nics = work.known.spec.nics if work.known else work.order.spec.nics
        await work.services.connection.run(_remove_files, work)
        await work.services.connection.run(work.services.networks.remove_unused, nics)
        await work.remove_unused_images()
    return {}


def _remove_files(work: Work) -> None:
    if work.files.folder.exists():
        shutil.rmtree(work.files.folder)
    for left in (work.files.serial_socket, work.files.screen_socket, work.files.agent_socket):
        left.unlink(missing_ok=True)
    name = glob.escape(work.known.spec.instance_name if work.known else work.order.spec.instance_name)
    for folder in work.services.files.guest_logs:
        for log in folder.glob(f"{name}.log*"):
            log.unlink(missing_ok=True)


def adopt_spec(work: Work) -> GuestSpec:
    """Remember the order's spec as the guest's own."""
    known = work.known
    spec = _merged(work.order.spec, known.spec if known else None)
    record = known or GuestRecord(spec)
    record.spec = spec
    work.remember(record)
    return spec


def _merged(spec: GuestSpec, known: GuestSpec | None) -> GuestSpec:
    devices = with_devices(spec, known)
    volumes = tuple(msgspec.structs.replace(volume, device=devices[volume.id]) for volume in spec.volumes)
    return msgspec.structs.replace(spec, volumes=volumes)


async def _fill(root: VolumeSpec, image: ImageSpec, copied: Tell) -> None:
    """The root volume's content becomes the image's; its size stays."""
    missing = f"Image {image.id} is not at {image.path} on this host. Upload it again, or use another image."
    source = disks.existing(image.path, "image_missing", missing)
    await disks.refill(Path(root.path), root.disk_format, source, image.disk_format, root.size_gb, copied)


async def _fresh_disk(work: Work, spec: GuestSpec, copied: Tell) -> None:
    if spec.image is None:
        raise OrderFailed("no_image", "The server has neither an image nor a boot volume. Create it with one of them.")
    await work.overlay(work.files.disk, spec.image, spec.disk_gb, copied)
