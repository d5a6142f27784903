"""libvirt's own in-process test hypervisor (`test:///default`): real definitions and states, no guests behind them.

For machines without QEMU. It has no disks, consoles, hot-plug, block jobs or guest agents: orders that need those are
refused as unsupported. Its guests live in the agent's process; a new agent makes them again as its records say.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hypervisor_agent.driver import ConsoleAddress, ConsoleKind, Unsupported
from hypervisor_agent.flavors import new_hardware
from hypervisor_agent.libvirt import build, power, settling
from hypervisor_agent.libvirt import record as records
from hypervisor_agent.libvirt.domain_xml import HostTraits, domain_xml
from hypervisor_agent.libvirt.driver import LibvirtDriver
from hypervisor_agent.libvirt.freezing import Freezing
from hypervisor_agent.libvirt.guest import Guest
from hypervisor_agent.libvirt.networks import Networks
from hypervisor_agent.libvirt.record import Resize
from hypervisor_agent.libvirt.work import Services, Work

URI = "test:///default"
Details = dict[str, Any]


class TestHypervisorGuest(Guest):
    """The test hypervisor knows fewer flags."""

    async def _press_power_button(self) -> None:
        await self.call(lambda domain: domain.shutdown())

    async def undefine(self) -> None:
        if await self.exists():
            await self.call(lambda domain: domain.undefine())


async def remember(work: Work) -> Details:
    if work.order.spec.volumes:
        raise Unsupported("libvirt's test hypervisor has no disks, so no volumes. Use a host with QEMU.")
    build.adopt_spec(work)
    return {}


async def spawn(work: Work) -> Details:
    build.adopt_spec(work)
    if not await work.guest.active():
        await _define_and_start(work)
    return {}


async def rebuild(work: Work) -> Details:
    await work.guest.force_off()
    build.adopt_spec(work)
    await _define_and_start(work)
    return {}


async def resize(work: Work) -> Details:
    record = work.record
    spec = record.spec
    if record.resize is None:
        running = await work.guest.active()
        record.resize = Resize(spec.vcpus, spec.memory_mb, spec.disk_gb, was_running=running)
    vcpus, memory_mb, disk_gb = new_hardware(work.order)
    record.spec = msgspec.structs.replace(spec, vcpus=vcpus, memory_mb=memory_mb, disk_gb=disk_gb)
    await _redefine(work, start=record.resize.was_running)
    return {}


async def confirm(work: Work) -> Details:
    work.record.resize = None
    return {}


async def revert(work: Work) -> Details:
    record = work.record
    if record.resize is not None:
        old = record.resize
        record.spec = msgspec.structs.replace(
            record.spec, vcpus=old.vcpus, memory_mb=old.memory_mb, disk_gb=old.disk_gb
        )
        await _redefine(work, start=old.was_running)
        record.resize = None
    return {}


async def _redefine(work: Work, *, start: bool) -> None:
    work.remember(work.record)
    await work.guest.force_off()
    if start:
        await _define_and_start(work)
    else:
        await work.define()


async def _define_and_start(work: Work) -> None:
    with work.step("start guest"):
        await work.define()
        await work.start()


class LibvirtTestDriver(LibvirtDriver):
    """See the module."""

    name = "libvirt-test"
    orders = {
        "create_disk": remember,
        "config_drive": remember,
        "spawn": spawn,
        "rebuild": rebuild,
        "destroy": build.destroy,
        "offload": build.destroy,
        "power_on": power.power_on,
        "power_off": power.power_off,
        "reboot_soft": power.reboot_soft,
        "reboot_hard": power.reboot_hard,
        "pause": power.pause,
        "unpause": power.unpause,
        "suspend": power.suspend,
        "resume": power.resume,
        "resize": resize,
        "resize_confirm": confirm,
        "resize_revert": revert,
        "settle": settling.settle,
    }

    def __init__(self, host: str, data_dir: Path, options: Mapping[str, Any]) -> None:
        super().__init__(host, data_dir, {**options, "uri": URI})

    async def _make_services(self) -> Services:
        traits = HostTraits(self._host, "test", bridged=False, arch="i686")
        networks = Networks(str(self._files.data.parent), bridged=False)
        freezing = Freezing(self._connection, self._files)
        services = Services(
            self._host, self._files, self._connection, networks, traits, freezing, guest_type=TestHypervisorGuest
        )
        await self._make_guests_again(services)
        return services

    async def _make_guests_again(self, services: Services) -> None:
        for path in self._files.guests.glob("*/record.json"):
            record = records.load(path)
            if record is None or record.power_state == "nostate":
                continue
            guest = TestHypervisorGuest(self._connection, record.spec.server_id)
            if await guest.exists():
                continue
            await guest.define(domain_xml(record, self._files.guest(record.spec.server_id), services.traits))
            if record.power_state != "shutdown":
                await guest.start()
            if record.power_state == "paused":
                await guest.call(lambda domain: domain.suspend())
            elif record.power_state == "suspended":
                await guest.call(lambda domain: domain.managedSave(0))

    async def console_output(self, server_id: str, lines: int | None) -> str:
        raise Unsupported("libvirt's test hypervisor has no console. Use a host with QEMU.")

    async def console_address(self, server_id: str, kind: ConsoleKind) -> ConsoleAddress:
        raise Unsupported("libvirt's test hypervisor has no console. Use a host with QEMU.")
