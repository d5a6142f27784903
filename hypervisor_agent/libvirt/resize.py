"""Resize on the same host: new vcpus, memory and disk; the disk as it was is kept until confirmed or reverted.

`record.resize` and the backup disk say how far an interrupted resize came: the backup is there, whole, before the disk
is touched, and goes back by one rename.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hypervisor_agent.flavors import new_hardware
from hypervisor_agent.libvirt import disks
from hypervisor_agent.libvirt.domain_xml import root_volume
from hypervisor_agent.libvirt.power import grace_seconds
from hypervisor_agent.libvirt.record import Resize
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]


async def resize(work: Work) -> Details:
    vcpus, memory_mb, disk_gb = new_hardware(work.order)
    record = work.record
    spec = record.spec
    if root_volume(spec) is None and not work.files.resize_backup.exists():
        disks.must_fit(work.files.disk.stat().st_blocks * 512, work.files.folder)
    if record.resize is None:
        running = await work.guest.active()
        record.resize = Resize(spec.vcpus, spec.memory_mb, spec.disk_gb, was_running=running)
        work.remember(record)
    with work.step("stop guest", 10):
        await work.guest.shut_off(grace_seconds(work))
    if root_volume(spec) is None:
        with work.step("copy disk", 10, 60) as copied:
            if not work.files.resize_backup.exists():
                await disks.copy(work.files.disk, work.files.resize_backup, copied)
            await disks.grow(work.files.disk, disk_gb)
    record.spec = msgspec.structs.replace(spec, vcpus=vcpus, memory_mb=memory_mb, disk_gb=disk_gb)
    work.remember(record)
    await _define_and_start(work, running=record.resize.was_running)
    return {}


async def confirm(work: Work) -> Details:
    record = work.record
    with work.step("remove the old disk"):
        work.files.resize_backup.unlink(missing_ok=True)
    record.resize = None
    work.remember(record)
    return {}


async def revert(work: Work) -> Details:
    """Back to what was: also what takes back a resize that failed half way. Without a resize nothing is done."""
    record = work.record
    before = record.resize
    if before is None:
        return {}
    with work.step("stop guest", 10):
        await work.guest.shut_off(grace_seconds(work))
    with work.step("restore disk", 40):
        if work.files.resize_backup.exists():
            work.files.resize_backup.replace(work.files.disk)
    record.spec = msgspec.structs.replace(
        record.spec, vcpus=before.vcpus, memory_mb=before.memory_mb, disk_gb=before.disk_gb
    )
    work.remember(record)
    await _define_and_start(work, running=before.was_running)
    record.resize = None
    work.remember(record)
    return {}


async def _define_and_start(work: Work, *, running: bool) -> None:
    with work.step("start guest" if running else "define guest", 60):
        await work.prepare()
        if running:
            await work.start()
