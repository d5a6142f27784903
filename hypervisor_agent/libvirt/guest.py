"""One guest as libvirt has it: found by its UUID, which is the server's id. Every call asks libvirt anew.

Waits are bounded and poll, so that a lost event never hangs an order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar
from xml.etree.ElementTree import Element, fromstring, tostring

import libvirt

from domain.orders import PowerStateName
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.connection import Connection
from hypervisor_agent.libvirt.copying import Tell, ignore

T = TypeVar("T")
POLL_SECONDS = 0.1
BUTTON_SECONDS = 5.0  # a guest that still boots does not notice its power button: press again
UNPLUG_SECONDS = 60.0
ASK_AGAIN_SECONDS = 5.0  # nor that it shall let go of a device
UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
_ALREADY_UNPLUGGING = frozenset({libvirt.VIR_ERR_DEVICE_MISSING, libvirt.VIR_ERR_OPERATION_FAILED})
_STATES: dict[int, PowerStateName] = {
    libvirt.VIR_DOMAIN_NOSTATE: "nostate",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",
    libvirt.VIR_DOMAIN_SHUTOFF: "shutdown",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}


def power_state_of(domain: Any) -> PowerStateName:
    """Blocking. As in Nova, one that is off is shutdown whatever ended it; with its memory on disk it is suspended."""
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_SHUTOFF and domain.hasManagedSaveImage(0):
        return "suspended"
    if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_CRASHED:
        return "crashed"
    return _STATES.get(state, "nostate")


class Guest:
    """See the module."""

    def __init__(self, connection: Connection, server_id: str) -> None:
        self._connection = connection
        self.server_id = server_id

    def _find(self) -> Any | None:
        try:
            return self._connection.raw.lookupByUUIDString(self.server_id)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    async def call(self, function: Callable[[Any], T]) -> T:
        """Call something that blocks with the domain. Raises `OrderFailed` (no_guest) when there is none."""

        def with_domain() -> T:
            domain = self._find()
            if domain is None:
                raise OrderFailed("no_guest", f"The hypervisor has no guest {self.server_id}. Rebuild the server.")
            return function(domain)

        return await self._connection.run(with_domain)

    async def exists(self) -> bool:
        return await self._connection.run(self._find) is not None

    async def power_state(self) -> PowerStateName:
        def look() -> PowerStateName:
            domain = self._find()
            return "nostate" if domain is None else power_state_of(domain)

        return await self._connection.run(look)

    async def active(self) -> bool:
        return await self.power_state() in ("running", "paused")

    async def definition(self) -> Element:
        """How it is now: the live definition of a guest that runs."""
        return fromstring(await self.call(lambda domain: domain.XMLDesc()))

    async def define(self, xml: str) -> None:
        await self._connection.run(lambda: self._connection.raw.defineXML(xml))

    async def start(self) -> None:
        """Start it, or restore it if it is suspended. One that runs stays as it is."""

        def start(domain: Any) -> None:
            if not domain.isActive():
                domain.create()

        await self.call(start)

    async def force_off(self) -> None:
        """Off now, and no saved memory left."""

        def off() -> None:
            domain = self._find()
            if domain is None:
                return
            if domain.isActive():
                try:
                    domain.destroy()
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or domain.isActive():
                        raise
            if domain.hasManagedSaveImage(0):
                domain.managedSaveRemove(0)

        await self._connection.run(off)

    async def shut_off(self, grace_seconds: float) -> bool:
        """Press the power button and wait; when the guest does not obey, force it. True: the guest did it itself."""
        limit = time.monotonic() + grace_seconds
        pressed = -BUTTON_SECONDS
        while await self.power_state() == "running" and time.monotonic() < limit:
            if time.monotonic() - pressed >= BUTTON_SECONDS:
                pressed = time.monotonic()
                await self._press_power_button()
            await asyncio.sleep(POLL_SECONDS)
        by_itself = await self.power_state() == "shutdown"
        await self.force_off()
        return by_itself

    async def _press_power_button(self) -> None:
        def press(domain: Any) -> None:
            try:
                domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # it went off in the meantime
                    raise

        await self.call(press)

    async def undefine(self) -> None:
        def undefine() -> None:
            domain = self._find()
            if domain is not None:
                domain.undefineFlags(UNDEFINE)

        await self._connection.run(undefine)

    async def wait(self, holds: Callable[[Any], bool], seconds: float, what: str) -> None:
        """Wait until something is true of the domain. Raises `OrderFailed` (guest_does_not_answer) after `seconds`."""
        await self.follow(lambda domain: None if holds(domain) else 0.0, seconds, what, ignore)

    async def follow(self, percent: Callable[[Any], float | None], seconds: float, what: str, tell: Tell) -> None:
        """As `wait`, for what says how far it is: `percent` is null when it has ended; until then `tell` is told."""
        limit = time.monotonic() + seconds
        while (reached := await self.call(percent)) is not None:
            tell(reached)
            if time.monotonic() > limit:
                raise OrderFailed(
                    "guest_does_not_answer",
                    f"The guest did not {what} within {seconds:.0f} seconds. Is its operating system up? Try again.",
                    changed=True,
                )
            await asyncio.sleep(POLL_SECONDS)

    async def unplug(self, find: Callable[[Any], Element | None], what: str) -> None:
        """Ask the guest, at least once, to let go of what `find` sees in the live domain, until it is gone."""
        limit = time.monotonic() + UNPLUG_SECONDS
        asked: float | None = None

        def ask(domain: Any) -> None:
            device = find(domain)
            if device is not None:
                try:
                    domain.detachDeviceFlags(tostring(device, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
                except libvirt.libvirtError as error:
                    if error.get_error_code() not in _ALREADY_UNPLUGGING:
                        raise

        while await self.call(find) is not None:
            if asked is not None and time.monotonic() > limit:
                message = (
                    f"The guest did not {what} within {UNPLUG_SECONDS:.0f} seconds. Stop using it there, then try "
                    "again. Should it still let go by itself, that is detached."
                )
                raise OrderFailed("device_busy", message)
            if asked is None or time.monotonic() - asked >= ASK_AGAIN_SECONDS:
                asked = time.monotonic()
                await self.call(ask)
            await asyncio.sleep(POLL_SECONDS)
