"""One order in the making: what every order's function is given, and the sub steps that its report will show."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import libvirt
import msgspec

from domain.orders import GuestSpec, ImageSpec, Order, PowerStateName, SubStep
from hypervisor_agent.driver import OrderFailed, Progress
from hypervisor_agent.libvirt import config_drive, disks, images, tagged
from hypervisor_agent.libvirt import record as records
from hypervisor_agent.libvirt.connection import Connection
from hypervisor_agent.libvirt.copying import Tell, on_loop
from hypervisor_agent.libvirt.domain_xml import METADATA_PREFIX, NAMESPACE, HostTraits, domain_xml, metadata_xml
from hypervisor_agent.libvirt.files import GuestFiles, HostFiles
from hypervisor_agent.libvirt.filters import PortFilters
from hypervisor_agent.libvirt.freezing import Freezing
from hypervisor_agent.libvirt.guest import Guest
from hypervisor_agent.libvirt.networks import Networks, bridge_name
from hypervisor_agent.libvirt.record import GuestRecord

START_ATTEMPTS = 3


@dataclass(frozen=True)
class Services:
    """What one host has, for all its orders."""

    host: str
    files: HostFiles
    connection: Connection
    networks: Networks
    traits: HostTraits
    freezing: Freezing
    guest_type: type[Guest] = Guest
    filters: PortFilters | None = None  # null: this host filters nothing
    images_lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # from keeping an image to remembering its guest


class Work:
    """See the module. `changed` is true once a sub step has begun."""

    def __init__(self, services: Services, order: Order, progress: Progress) -> None:
        self.services = services
        self.order = order
        self.progress = progress
        self.files: GuestFiles = services.files.guest(order.server_id)
        self.guest = services.guest_type(services.connection, order.server_id)
        self.known: GuestRecord | None = records.load(self.files.record)
        self.steps: list[SubStep] = []

    @property
    def record(self) -> GuestRecord:
        if self.known is None:
            raise OrderFailed(
                "no_guest",
                f"Host {self.services.host} has no guest {self.order.server_id}. Rebuild or delete the server.",
            )
        return self.known

    @property
    def changed(self) -> bool:
        return bool(self.steps)

    @contextmanager
    def step(self, name: str, percent: int | None = None, until: int | None = None) -> Iterator[Tell]:
        """A part that takes time: told as progress, and kept with its times whether it succeeds or not.

        It begins at `percent` of the order. What it yields is told how far the part itself is, which fills the way to
        `until`.
        """
        if percent is not None:
            self.progress(percent, name)
        begun = SubStep(name, datetime.now(UTC))
        self.steps.append(begun)

        def tell(done: float) -> None:
            if percent is not None and until is not None:
                self.progress(percent + int((until - percent) * min(done, 100.0) / 100), name)

        try:
            yield tell
        finally:
            self.steps[self.steps.index(begun)] = SubStep(name, begun.started_at, datetime.now(UTC))

    def remember(self, record: GuestRecord) -> None:
        self.files.folder.mkdir(parents=True, exist_ok=True)
        records.save(self.files.record, record)
        self.known = record

    async def overlay(self, disk: Path, image: ImageSpec, size_gb: int, copied: Tell) -> None:
        """A fresh disk built on the image, which this host keeps from now on."""
        source = await self.services.connection.run(images.keep, self.services.files, image, on_loop(copied))
        await disks.create_overlay(disk, source, image.disk_format, size_gb)

    async def remove_unused_images(self) -> None:
        async with self.services.images_lock:
            await self.services.connection.run(images.remove_unused, self.services.files)

    async def describe(self, spec: GuestSpec, devices: Sequence[dict[str, Any]] = ()) -> None:
        """Write the config drive; see `config_drive` and `tagged`."""
        files = config_drive.contents(spec, os.urandom(config_drive.SEED_BYTES), devices)
        await self.services.connection.run(config_drive.write, self.files.config_drive, files)

    async def prepare(self, admin_password: str | None = None) -> None:
        """Before a start: config drive and definition say what the server is by now; a starting guest reads them.

        Where the devices with a tag are is known when they are defined, so then the drive is written once more. A
        host without config drives (libvirt's test driver) only defines.
        """
        record = self.record
        now = by_now(record.spec, self.order.spec)
        if now != record.spec or record.letting_go:
            record.spec, record.letting_go = now, ()  # it starts with all its devices: nobody asked this one
            self.remember(record)
        password = now.admin_password if admin_password is None else admin_password
        spec = msgspec.structs.replace(now, admin_password=password)
        has_drive = self.files.config_drive.exists()
        if has_drive:
            await self.describe(spec)
        await self.define()
        if has_drive and tagged.any_tagged(spec):
            await self.describe(spec, tagged.devices(spec, await self.guest.definition(), self.files.disk))

    async def define(self) -> None:
        """Let libvirt's definition be what the record says. A guest that runs has it from its next start."""
        await self.guest.define(domain_xml(self.record, self.files, self.services.traits))

    async def start(self) -> None:
        """Start the guest with its networks there. Another guest's end may remove a bridge in between: once more."""
        nics = self.record.spec.nics
        for attempt in range(START_ATTEMPTS):
            await self.services.connection.run(self.services.networks.ensure, nics)
            try:
                await self.guest.start()
                return
            except OrderFailed as error:
                lost = any(bridge_name(nic.network_id) in error.fault.message for nic in nics)
                if not lost or attempt + 1 == START_ATTEMPTS:
                    raise

    async def stamp(self) -> PowerStateName:
        """The order is done: say so in the record, and in the domain's metadata for whoever looks from outside."""
        record = self.record
        record.power_state = await self.guest.power_state()
        record.generation, record.order_id = self.order.generation, self.order.id
        if await self.guest.exists():
            xml = metadata_xml(record, self.services.host)
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
            if record.power_state in ("running", "paused"):
                flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
            await self.guest.call(
                lambda domain: domain.setMetadata(
                    libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, METADATA_PREFIX, NAMESPACE, flags
                )
            )
        self.remember(record)
        return record.power_state


def by_now(known: GuestSpec, told: GuestSpec) -> GuestSpec:
    """A guest's spec with what changes without an order: names, metadata, the addresses of its ports, tags."""
    nics = {nic.port_id: nic for nic in told.nics}
    tags = {volume.id: volume.tag for volume in told.volumes}
    return msgspec.structs.replace(
        known,
        name=told.name,
        hostname=told.hostname,
        metadata=told.metadata,
        nics=tuple(nics.get(nic.port_id, nic) for nic in known.nics),
        volumes=tuple(msgspec.structs.replace(one, tag=tags.get(one.id, one.tag)) for one in known.volumes),
    )
