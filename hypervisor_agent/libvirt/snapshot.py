"""Snapshot: a flat qcow2 of the root disk, or of every volume, as it is at one instant. The guest goes on meanwhile.

A guest that is on is copied by QEMU's backup job, its file systems frozen for the instant when the guest agent
answers (an image with os_require_quiesce demands it); one that is off by qemu-img. An unfinished file lies beside the
image's path and never at it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import libvirt

from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt import disks
from hypervisor_agent.libvirt.copying import Tell
from hypervisor_agent.libvirt.domain_xml import target as block_target
from hypervisor_agent.libvirt.freezing import freeze, thaw
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]
Copies = dict[str, tuple[Path, str, Path]]  # a guest's device: its file, the format of that, and where the copy goes
ROOT = "vda"
COPY_SECONDS = 3600.0
CLOSE_SECONDS = 60.0


async def snapshot(work: Work) -> Details:
    target = Path(work.order.params["image_path"])
    device = "vdb" if work.record.rescue else ROOT
    frozen = await _copy(work, {device: (work.files.disk, "qcow2", target)})
    known = await disks.info(target, "qcow2")
    return {
        "image_path": str(target),
        "size": known["actual-size"],
        "virtual_size": known["virtual-size"],
        **frozen,
    }


async def snapshot_volumes(work: Work) -> Details:
    """All volumes that the order names, of one and the same instant."""
    copies: Copies = {}
    for wanted in work.order.params["snapshots"]:
        volume = next((one for one in work.record.spec.volumes if one.id == wanted["volume_id"]), None)
        if volume is None or volume.device is None:
            message = f"Volume {wanted['volume_id']} is not attached to this server. Attach it first."
            raise OrderFailed("volume_not_attached", message)
        copies[block_target(volume.device)] = (Path(volume.path), volume.disk_format, Path(wanted["path"]))
    return await _copy(work, copies)


async def _copy(work: Work, copies: Copies) -> Details:
    """Write each copy whole; whether the file systems were frozen at that instant, and if not, why."""
    needed = 0
    for source, kind, target in copies.values():
        target.parent.mkdir(parents=True, exist_ok=True)
        needed += await disks.flat_size(source, kind)
        disks.must_fit(needed, target.parent)
    with work.step("copy disk", 0, 99) as copied:
        if await work.guest.active():
            why_not = await _copy_live(work, {device: target for device, (_, _, target) in copies.items()}, copied)
            return {"quiesced": False, "not_quiesced": why_not} if why_not else {"quiesced": True}
        for done, (source, kind, target) in enumerate(copies.values()):
            await disks.flatten(source, kind, target, partial(_of_several, copied, done, len(copies)))
        return {"quiesced": False, "not_quiesced": "The guest is off."}


def _of_several(copied: Tell, done: int, count: int, percent: float) -> None:
    copied((100 * done + percent) / count)


async def _copy_live(work: Work, targets: dict[str, Path], copied: Tell) -> str:
    parts = {device: target.with_name(f"{target.name}.part") for device, target in targets.items()}

    def forget() -> None:
        for part in parts.values():
            part.unlink(missing_ok=True)

    # What an agent that was killed may have left.
    await work.services.freezing.thaw_left(work.order.server_id, work.files)
    await _abort(work)
    forget()
    try:
        why_not = await _begun(work, parts)
        await work.guest.follow(_percent, COPY_SECONDS, "finish copying its disk", copied)
        stats = await work.guest.call(lambda domain: domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED))
    except (asyncio.CancelledError, OrderFailed):
        await _abort(work)
        forget()
        await work.guest.call(_go_on)
        raise
    if stats.get("type") != libvirt.VIR_DOMAIN_JOB_COMPLETED:
        forget()
        await work.guest.call(_go_on)
        message = "Copying the disk did not finish. Is the store full? Free some space and take the snapshot again."
        raise OrderFailed("snapshot_failed", message, str(stats), changed=False)
    for device, part in parts.items():
        # The job's end is told before QEMU has closed the file: until then the last of it may not be written.
        await disks.released(part, CLOSE_SECONDS)
        part.replace(targets[device])
    return why_not


async def _begun(work: Work, targets: dict[str, Path]) -> str:
    """Begin the copies, to its end even when the order is cancelled: nobody else would thaw the guest at once."""
    required = bool(work.order.params.get("require_quiesce"))
    async with work.services.freezing.alone(work.order.server_id):
        begin = asyncio.ensure_future(
            work.guest.call(lambda domain: _begin(domain, targets, work.files.frozen, required=required))
        )
        try:
            return await asyncio.shield(begin)
        except asyncio.CancelledError:
            await asyncio.gather(begin, return_exceptions=True)
            raise


def _percent(domain: Any) -> float | None:
    kind, _, _, _, _, _, _, _, _, total, done, _ = domain.jobInfo()
    if kind == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    return 100 * done / total if total else 0.0


def _begin(domain: Any, targets: dict[str, Path], mark: Path, *, required: bool) -> str:
    """Begin the copies; empty when the file systems were frozen at that instant, else why not. `mark`: `freezing`'s."""
    backup = Element("domainbackup", mode="push")
    listed = SubElement(backup, "disks")
    for disk in fromstring(domain.XMLDesc()).findall("devices/disk/target"):
        name = disk.get("dev", "")
        if name not in targets:
            SubElement(listed, "disk", name=name, backup="no")
            continue
        chosen = SubElement(listed, "disk", name=name, backup="yes", type="file", backupmode="full")
        SubElement(chosen, "target", file=str(targets[name]))
        SubElement(chosen, "driver", type="qcow2")
    why_not = freeze(domain, mark)  # if so the copy is as after a power cut, which file systems bear
    if why_not and required:
        raise OrderFailed(
            "not_quiesced",
            f"The image requires that file systems are frozen (os_require_quiesce), which failed: {why_not} Start "
            "qemu-guest-agent in the guest, or stop the server first.",
        )
    try:
        domain.backupBegin(tostring(backup, encoding="unicode"), None, 0)
    finally:
        if not why_not:
            _thaw(domain, mark)
    return why_not


def _thaw(domain: Any, mark: Path) -> None:
    """A guest that QEMU halted meanwhile does not answer: the copy is given up, then it goes on and can."""
    try:
        thaw(domain, mark)
    except libvirt.libvirtError:
        if domain.isActive() and domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            domain.abortJob()
        _go_on(domain)
        thaw(domain, mark)
        raise


def _go_on(domain: Any) -> None:
    """QEMU halts a guest whose write fails because the copy of what it overwrites has no room: let it write now."""
    state, reason = domain.state()
    if (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
        domain.resume()


async def _abort(work: Work) -> None:
    def abort(domain: Any) -> None:
        if domain.isActive() and domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            domain.abortJob()

    await work.guest.call(abort)
    await work.guest.wait(
        lambda domain: not domain.isActive() or domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE,
        60,
        "give up the copy before",
    )
