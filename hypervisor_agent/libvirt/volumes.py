"""Volumes: plugged in, out, changed for another and extended, in a guest that runs or for its next start.

The live guest is changed first, then what is remembered: a repeated order sees in the live definition (by the disk's
serial or file) that the first half is done.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import libvirt
import msgspec

from domain.orders import VolumeSpec
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt import disks, unplugging
from hypervisor_agent.libvirt.copying import Tell
from hypervisor_agent.libvirt.domain_xml import free_device, target, volume_element
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]
MIRROR_SECONDS = 3600.0


async def attach(work: Work) -> Details:
    record = work.record
    volume = msgspec.convert(work.order.params["volume"], VolumeSpec)
    missing = f"Volume {volume.id} is not at {volume.path} on this host. Detach it, or restore the file."
    disks.existing(volume.path, "volume_missing", missing)
    others = {known.device or "": known for known in record.spec.volumes if known.id != volume.id}
    before = next((known for known in record.spec.volumes if known.id == volume.id), None)
    wanted = volume.device or (before.device if before else None)
    if wanted in others:
        raise OrderFailed("device_in_use", f"{wanted} is another volume. Name a free device, or none.")
    device = wanted or free_device({"/dev/vda", *others})
    volume = msgspec.structs.replace(volume, device=device)
    if await work.guest.active() and record.rescue is None:
        with work.step("plug volume in", 30):
            if await _live(work, device=target(device)) is None:
                xml = tostring(volume_element(volume), encoding="unicode")
                await work.guest.call(lambda domain: domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE))
                unplugging.settled(record, volume.id)
    record.spec = msgspec.structs.replace(record.spec, volumes=(*others.values(), volume))
    work.remember(record)
    await _define(work)
    return {"device": device}


async def detach(work: Work) -> Details:
    record = work.record
    volume = msgspec.convert(work.order.params["volume"], VolumeSpec)
    if await work.guest.active():
        with work.step("unplug volume", 30):
            find = partial(_find_disk, serial=volume.id, source=volume.path)
            await unplugging.unplug(work, volume.id, find, f"let go of volume {volume.id}")
    unplugging.settled(record, volume.id)
    kept = tuple(known for known in record.spec.volumes if known.id != volume.id)
    record.spec = msgspec.structs.replace(record.spec, volumes=kept)
    work.remember(record)
    await _define(work)
    return {}


async def swap(work: Work) -> Details:
    """Copy the old volume's content to the new one while the guest uses it, then let the guest go on with the new."""
    record = work.record
    old = msgspec.convert(work.order.params["old"], VolumeSpec)
    new = msgspec.convert(work.order.params["new"], VolumeSpec)
    held = next((known for known in record.spec.volumes if known.id in (old.id, new.id)), None)
    if held is None or held.device is None:
        raise OrderFailed("volume_not_attached", f"Volume {old.id} is not attached to this server. Attach it first.")
    device = target(held.device)
    held = await _as_it_is(work, held, device, old, new)
    if held.id == new.id:  # done before, or never begun: a half-made copy that nobody will finish has to go
        await _stop_copying(work, device)
        await disks.grow(Path(old.path), old.size_gb)
    if held.id == old.id:
        with work.step("copy volume", 0, 80) as copied:
            if await work.guest.active() and record.rescue is None:
                await _mirror(work, device, new, copied)
                if new.size_gb > held.size_gb:
                    await _resize_live(work, device, new.size_gb)
            else:
                await disks.copy_into(Path(old.path), old.disk_format, Path(new.path), new.disk_format, copied)
        swapped = msgspec.structs.replace(new, device=held.device, boot_index=held.boot_index)
        volumes = tuple(swapped if known.id == old.id else known for known in record.spec.volumes)
        record.spec = msgspec.structs.replace(record.spec, volumes=volumes)
        work.remember(record)
    await _define(work)
    return {"device": held.device}


async def _as_it_is(work: Work, held: VolumeSpec, device: str, old: VolumeSpec, new: VolumeSpec) -> VolumeSpec:
    """The volume that the guest uses: the other one, when a swap was cut off before it could be remembered."""
    live = await _live(work, device=device) if await work.guest.active() else None
    if held.id != new.id or live is None or _source(live) != old.path:
        return held
    used = msgspec.structs.replace(old, device=held.device, boot_index=held.boot_index)
    spec = work.record.spec
    volumes = tuple(used if known.id == held.id else known for known in spec.volumes)
    work.record.spec = msgspec.structs.replace(spec, volumes=volumes)
    work.remember(work.record)
    return used


async def _mirror(work: Work, device: str, new: VolumeSpec, copied: Tell) -> None:
    live = await _live(work, device=device)
    if live is not None and _source(live) == new.path:
        return
    if not await work.guest.call(lambda domain: domain.blockJobInfo(device)):
        # QEMU copies between disks of one size only: the new one gets its own size back afterwards.
        size = await work.guest.call(lambda domain: int(domain.blockInfo(device)[0]))
        await disks.set_size(Path(new.path), new.disk_format, size)
    copy = Element("disk", type="file")
    SubElement(copy, "source", file=new.path)
    SubElement(copy, "driver", type=new.disk_format)
    xml = tostring(copy, encoding="unicode")
    flags = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB

    def begin(domain: Any) -> None:
        if not domain.blockJobInfo(device):  # else: begun by an agent that was killed since
            domain.blockCopy(device, xml, flags=flags)

    await work.guest.call(begin)
    try:
        await work.guest.follow(
            lambda domain: None if _mirrored(domain, device) else _percent(domain, device),
            MIRROR_SECONDS,
            "finish copying the volume",
            copied,
        )
    except OrderFailed:
        await _stop_copying(work, device)
        raise
    await work.guest.call(lambda domain: domain.blockJobAbort(device, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT))


def _percent(domain: Any, device: str) -> float:
    job = domain.blockJobInfo(device)
    return 100 * job["cur"] / job["end"] if job and job["end"] else 0.0


def _mirrored(domain: Any, device: str) -> bool:
    disk = _find_disk(domain, device=device)
    mirror = disk.find("mirror") if disk is not None else None
    if mirror is None:
        raise OrderFailed(
            "copy_failed",
            "Copying the volume ended early; the guest goes on with the old one. Is the store full? Free some space "
            "and swap again.",
        )
    return mirror.get("ready") == "yes"


async def _stop_copying(work: Work, device: str) -> None:
    def stop(domain: Any) -> None:
        if domain.isActive() and domain.blockJobInfo(device):
            domain.blockJobAbort(device)

    await work.guest.call(stop)


async def extend(work: Work) -> Details:
    """The volume's file is at least that large, and so is the guest's disk."""
    record = work.record
    wanted = msgspec.convert(work.order.params["volume"], VolumeSpec)
    size_gb = int(work.order.params["size_gb"])
    volume = next((known for known in record.spec.volumes if known.id == wanted.id), None)
    if volume is None or volume.device is None:
        raise OrderFailed("volume_not_attached", f"Volume {wanted.id} is not attached to this server. Attach it first.")
    with work.step("extend volume", 30):
        if await work.guest.active():
            await _resize_live(work, target(volume.device), size_gb)
        else:
            await disks.grow(Path(volume.path), size_gb)
    grown = msgspec.structs.replace(volume, size_gb=size_gb)
    volumes = tuple(grown if known is volume else known for known in record.spec.volumes)
    record.spec = msgspec.structs.replace(record.spec, volumes=volumes)
    work.remember(record)
    return {"size_gb": size_gb}


async def _resize_live(work: Work, device: str, size_gb: int) -> None:
    def resize(domain: Any) -> None:
        if domain.blockInfo(device)[0] < size_gb * disks.GIB:
            domain.blockResize(device, size_gb * disks.GIB, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    await work.guest.call(resize)


async def _live(work: Work, *, device: str = "", serial: str = "", source: str = "") -> Element | None:
    return await work.guest.call(lambda domain: _find_disk(domain, device=device, serial=serial, source=source))


def _find_disk(domain: Any, *, device: str = "", serial: str = "", source: str = "") -> Element | None:
    """The live disk of that device, serial or file."""
    for disk in fromstring(domain.XMLDesc()).findall("devices/disk"):
        at = disk.find("target")
        if device and at is not None and at.get("dev") == device:
            return disk
        if (serial and disk.findtext("serial") == serial) or (source and _source(disk) == source):
            return disk
    return None


def _source(disk: Element) -> str | None:
    source = disk.find("source")
    return source.get("file") if source is not None else None


async def _define(work: Work) -> None:
    with work.step("define guest", 80):
        await work.define()
