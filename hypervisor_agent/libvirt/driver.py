"""The libvirt driver: one host's guests as real QEMU machines.

Options, all optional: `uri` (use that libvirtd, for instance `qemu:///system`, instead of a private one, see `daemon`),
`stop_guests` (true: closing the driver stops the guests; false, the default: they run on and the next agent finds
them). Closing also ends the private libvirtd when no guest is left running.

A libvirtd that dies is started again; orders under way wait for it and go on, guests do not notice. Whatever a
guest does by itself is told as a lifecycle event within a second: an event of libvirt only makes the driver
look, and it tells when what it sees is not what the last order left.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from domain.filters import KIND as FILTERS
from domain.filters import HostFilters
from domain.orders import HostInventory, NicSpec, Order, OrderKind, PowerStateName
from hypervisor_agent.driver import (
    LET_GO_LATE,
    ConsoleAddress,
    ConsoleKind,
    Done,
    GuestSeen,
    LifecycleEvent,
    OrderFailed,
    Progress,
    Unsupported,
)
from hypervisor_agent.libvirt import build, inside, interfaces, power, rescue, resize, settling, snapshot, volumes
from hypervisor_agent.libvirt import record as records
from hypervisor_agent.libvirt.connection import Connection, Disconnected
from hypervisor_agent.libvirt.daemon import Daemons
from hypervisor_agent.libvirt.dhcp import Dhcp
from hypervisor_agent.libvirt.domain_xml import HostTraits
from hypervisor_agent.libvirt.events import leads_to, reason_of
from hypervisor_agent.libvirt.files import GuestFiles, HostFiles
from hypervisor_agent.libvirt.filters import PortFilters
from hypervisor_agent.libvirt.filters import possible as can_filter
from hypervisor_agent.libvirt.freezing import Freezing
from hypervisor_agent.libvirt.guest import Guest, power_state_of
from hypervisor_agent.libvirt.inspection import console_text, diagnostics, host_cpu
from hypervisor_agent.libvirt.machine import EMULATOR, kvm_works, program
from hypervisor_agent.libvirt.networks import Networks
from hypervisor_agent.libvirt.unplugging import let_go
from hypervisor_agent.libvirt.work import Services, Work

ORDERS: dict[OrderKind, Callable[[Work], Awaitable[dict[str, Any]]]] = {
    "create_disk": build.create_disk,
    "config_drive": build.make_config_drive,
    "spawn": build.spawn,
    "rebuild": build.rebuild,
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
    "rescue": rescue.rescue,
    "unrescue": rescue.unrescue,
    "resize": resize.resize,
    "resize_confirm": resize.confirm,
    "resize_revert": resize.revert,
    "snapshot": snapshot.snapshot,
    "attach_volume": volumes.attach,
    "detach_volume": volumes.detach,
    "swap_volume": volumes.swap,
    "extend_volume": volumes.extend,
    "snapshot_volumes": snapshot.snapshot_volumes,
    "attach_interface": interfaces.attach,
    "detach_interface": interfaces.detach,
    "settle": settling.settle,
    "set_password": inside.set_password,
    "crash_dump": inside.crash_dump,
    "console_output": inside.console_output,
}
HYPERVISOR_TYPES = {"kvm": "kvm", "qemu": "QEMU", "test": "test"}
ENDS = frozenset({"destroy", "offload"})
SETTLE_PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # seconds between the looks at what a new libvirtd shows
ATTEMPTS = 3  # of an order whose libvirtd dies under it
RECONNECT_SECONDS = 60.0
RETRY_SECONDS = 0.5
FILTER_CHECK_SECONDS = 5.0

log = structlog.get_logger("agent")


class LibvirtDriver:
    """See the module."""

    name = "libvirt"
    orders = ORDERS

    def __init__(self, host: str, data_dir: Path, options: Mapping[str, Any]) -> None:
        self._host = host
        self._files = HostFiles(data_dir.absolute())
        self._stop_guests = bool(options.get("stop_guests", False))
        uri = options.get("uri")
        self._daemons = None if uri else Daemons(host, self._files)
        self._connection = Connection(
            uri or (self._daemons.uri if self._daemons else ""),
            self._on_event,
            self._on_device_removed,
            self._on_close,
        )
        self._services: Services | None = None
        self._callbacks: list[Callable[[LifecycleEvent], None]] = []
        self._expected: dict[str, PowerStateName] = {}
        self._busy: set[str] = set()
        self._connected = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started_at: datetime | None = None
        self._closing = False
        self._filtering = asyncio.Lock()

    async def open(self) -> None:
        self._files.guests.mkdir(parents=True, exist_ok=True)
        await self._connect()
        self._services = await self._make_services()
        await self._connection.run(self._services.networks.remove_stale)
        for known in records.all_of(self._files):
            self._services.networks.listen(known.spec.nics)
        if self._services.filters is not None:
            try:
                await self._connection.run(self._services.filters.open)
            except OrderFailed as error:  # tried again with every check
                log.error("the port filters are not as ordered", host=self._host, error=error.fault.details)
            self._spawn(self._keep_filters(self._services.filters))
        self._spawn(self._services.freezing.look())
        self._started_at = datetime.now(UTC)
        self._expected = {guest.server_id: guest.power_state for guest in await self.guests()}
        if self._expected:
            self._spawn(self._settle())

    async def close(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._services is not None:
            await asyncio.to_thread(self._services.networks.close)
        try:
            guests = await self.guests()
            running = [guest for guest in guests if guest.power_state in ("running", "paused")]
            if self._stop_guests:
                await asyncio.gather(*(self._guest(guest.server_id).force_off() for guest in running))
                running = []
            if not running and self._services is not None and self._services.filters is not None:
                await self._connection.run(self._services.filters.remove)
            if self._daemons is not None and not running:
                await self._connection.run(self._daemons.stop)
        except Disconnected:
            pass  # there is no libvirtd to be stopped
        await self._connection.close()

    async def _make_services(self) -> Services:
        kvm = await self._connection.run(kvm_works)
        networks = Networks(str(self._files.data.parent), dhcp=Dhcp(self._nic_of))
        filters = PortFilters(self._files) if await self._connection.run(can_filter) else None
        if networks.bridged and filters is None:
            log.warning("security groups have no effect on this host: it has no nftables or no br_netfilter")
        taps = filters.taps if filters is not None else ""
        traits = HostTraits(self._host, "kvm" if kvm else "qemu", networks.bridged, program(EMULATOR), taps=taps)
        freezing = Freezing(self._connection, self._files)
        return Services(self._host, self._files, self._connection, networks, traits, freezing, filters=filters)

    async def _connect(self) -> None:
        if self._daemons is not None:
            await self._connection.run(self._daemons.ensure)
        await self._connection.open()
        self._connected.set()

    def _on_close(self) -> None:
        if not self._closing and self._connected.is_set():
            self._connected.clear()
            self._spawn(self._reconnect())

    async def _reconnect(self) -> None:
        while True:
            try:
                await self._connect()
                break
            except OrderFailed:
                await asyncio.sleep(RETRY_SECONDS)
        await self._settle()

    async def _settle(self) -> None:
        """Look at all guests for a while: a libvirtd that just started shows what was, then corrects it silently.

        Told is what two looks have seen: in between, a guest that somebody starts is paused for a moment.
        """
        before: dict[str, PowerStateName] = {}
        for pause in SETTLE_PAUSES:
            await asyncio.sleep(pause)
            try:
                guests = await self.guests()
            except OrderFailed:
                continue
            for seen in guests:
                if before.get(seen.server_id) == seen.power_state:
                    self._compare(seen.server_id, seen.power_state, "changed while the hypervisor daemon was away")
            before = {seen.server_id: seen.power_state for seen in guests}

    async def inventory(self) -> HostInventory:
        raw = self._connection.raw
        node = await self._connection.run(raw.getInfo)
        return HostInventory(
            host=self._host,
            driver=self.name,
            hypervisor_type=HYPERVISOR_TYPES[self._ready().traits.domain_type],
            hypervisor_version=int(await self._connection.run(raw.getVersion)),
            vcpus=int(node[2]),
            memory_mb=int(node[1]),
            disk_gb=shutil.disk_usage(self._files.data).total >> 30,
            cpu_info=host_cpu(await self._connection.run(raw.getCapabilities)),
            capabilities=(*self.orders, *((FILTERS,) if self._ready().filters is not None else ())),
            started_at=self._started_at,
        )

    async def filter_ports(self, filters: HostFilters) -> None:
        """Raises `Unsupported` where the host has no filters."""
        known = self._ready().filters
        if known is None:
            raise Unsupported("This host has no nftables or no br_netfilter, so security groups have no effect on it.")
        async with self._filtering:
            await self._connection.run(known.order, filters)

    async def _keep_filters(self, filters: PortFilters) -> None:
        while True:
            await asyncio.sleep(FILTER_CHECK_SECONDS)
            try:
                async with self._filtering:
                    as_left = await self._connection.run(filters.check)
                if not as_left:
                    log.warning("somebody changed the port filters; they are as ordered again", host=self._host)
            except OrderFailed as error:
                log.error("the port filters are not as ordered", host=self._host, error=error.fault.details)

    async def guests(self) -> list[GuestSeen]:
        """The guests of this host; what others run on a shared libvirtd is not listed."""

        def look() -> list[GuestSeen]:
            seen = []
            for domain in self._connection.raw.listAllDomains():
                server_id = domain.UUIDString()
                known = records.load(self._files.guest(server_id).record)
                if known is not None:
                    gone = let_go(domain, known)
                    seen.append(GuestSeen(server_id, power_state_of(domain), known.generation, domain.name(), gone))
            return seen

        try:
            return await self._connection.run(look)
        except Disconnected:
            self._on_close()  # where the connection did not tell so itself
            raise

    async def console_output(self, server_id: str, lines: int | None) -> str:
        return await self._connection.run(console_text, self._known(server_id).console_log, lines)

    async def diagnostics(self, server_id: str) -> dict[str, Any]:
        drive = self._known(server_id).config_drive.exists()
        return await self._guest(server_id).call(lambda domain: diagnostics(domain, config_drive=drive))

    async def console_address(self, server_id: str, kind: ConsoleKind) -> ConsoleAddress:
        files = self._known(server_id)
        if not await self._guest(server_id).active():
            raise OrderFailed("wrong_power_state", "A guest that is off has no console. Start the server first.")
        return "unix", str(files.serial_socket if kind == "serial" else files.screen_socket)

    def on_lifecycle(self, callback: Callable[[LifecycleEvent], None]) -> None:
        self._callbacks.append(callback)

    async def carry_out(self, order: Order, progress: Progress) -> Done:
        action = self.orders.get(order.kind)
        if action is None:
            raise Unsupported(f"The {self.name} driver can not do {order.kind}. Use a host with another driver.")
        self._busy.add(order.server_id)
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await self._carry_out(action, order, progress)
                except Disconnected:
                    if attempt == ATTEMPTS:
                        raise
                    self._on_close()
                    await self._wait_connected()
            raise AssertionError("unreachable")
        finally:
            self._busy.discard(order.server_id)

    async def _carry_out(
        self, action: Callable[[Work], Awaitable[dict[str, Any]]], order: Order, progress: Progress
    ) -> Done:
        work = Work(self._ready(), order, progress)
        known = work.known
        if known is not None and order.generation < known.generation:
            raise OrderFailed(
                "superseded",
                f"Order {order.id} is of generation {order.generation}; the guest is already at {known.generation}. "
                "Drop it.",
                power_state=await work.guest.power_state(),
            )
        if known is not None and known.order_id == order.id and order.kind != "console_output":
            return Done(await work.guest.power_state(), {"repeated": True})
        try:
            details = await action(work)
            if order.kind in ENDS or work.known is None:
                self._expected.pop(order.server_id, None)
                return Done("nostate", details, tuple(work.steps))
            state = await (work.guest.power_state() if order.kind == "console_output" else work.stamp())
        except Disconnected:
            raise
        except OrderFailed as error:
            error.changed = error.changed or work.changed
            if error.power_state is None:
                error.power_state = await work.guest.power_state()
                self._expected[order.server_id] = error.power_state
            raise
        except OSError as error:
            message = f"{order.kind} failed on this host: {error.strerror}. Is its disk full or read-only?"
            raise OrderFailed("host_failed", message, str(error), changed=work.changed) from error
        self._expected[order.server_id] = state
        return Done(state, details, tuple(work.steps))

    async def _wait_connected(self) -> None:
        try:
            async with asyncio.timeout(RECONNECT_SECONDS):
                await self._connected.wait()
        except TimeoutError as error:
            raise Disconnected(f"no connection within {RECONNECT_SECONDS:.0f} seconds") from error

    def _on_event(self, server_id: str, event: int, detail: int) -> None:
        if not self._closing and server_id not in self._busy:
            reason = reason_of(event, detail, self._expected.get(server_id))
            self._spawn(self._look(server_id, event, reason))

    async def _look(self, server_id: str, event: int, reason: str) -> None:
        try:
            state = await self._guest(server_id).power_state()
        except OrderFailed:
            return  # the next connection compares all guests
        if not leads_to(event, state):
            return  # it changed again since: the event of that says why
        if self._files.guest(server_id).record.exists():
            self._compare(server_id, state, reason)

    def _on_device_removed(self, server_id: str) -> None:
        if not self._closing and server_id not in self._busy:
            self._spawn(self._look_at_devices(server_id))

    async def _look_at_devices(self, server_id: str) -> None:
        known = records.load(self._files.guest(server_id).record)
        if known is None:
            return
        try:
            state, gone = await self._guest(server_id).call(
                lambda domain: (power_state_of(domain), let_go(domain, known))
            )
        except OrderFailed:
            return  # the next look at all guests finds it
        if gone:
            for callback in self._callbacks:
                callback(LifecycleEvent(server_id, state, LET_GO_LATE, gone))

    def _compare(self, server_id: str, state: PowerStateName, reason: str) -> None:
        if server_id in self._busy or self._expected.get(server_id) in (None, state):
            return
        self._expected[server_id] = state
        for callback in self._callbacks:
            callback(LifecycleEvent(server_id, state, reason))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _guest(self, server_id: str) -> Guest:
        return self._ready().guest_type(self._connection, server_id)

    def _nic_of(self, mac: str) -> NicSpec | None:
        nics = (nic for known in records.all_of(self._files) for nic in known.spec.nics)
        return next((nic for nic in nics if nic.mac.lower() == mac), None)

    def _known(self, server_id: str) -> GuestFiles:
        files = self._files.guest(server_id)
        if not files.record.exists():
            raise OrderFailed("no_guest", f"Host {self._host} has no guest {server_id}.")
        return files

    def _ready(self) -> Services:
        if self._services is None:
            raise OrderFailed("driver_unavailable", "The driver is not open.")
        return self._services
