"""A guest's file systems, frozen by its agent for the instant of a copy, and thawed whatever happens meanwhile.

A mark lies in the guest's folder from before it is frozen until it is thawed. Whoever finds one thaws: the driver when
it opens and every few seconds, and the next copy. So neither an agent or libvirtd that dies in between nor a guest that
does not answer for a while leaves frozen file systems behind.

The functions block; `Freezing` is for the event loop.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import libvirt
import structlog

from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.connection import Connection
from hypervisor_agent.libvirt.files import GuestFiles, HostFiles
from hypervisor_agent.libvirt.guest import Guest

FREEZE_SECONDS = 20
THAW_SECONDS = 15
LOOK_SECONDS = 5.0
CHANNEL = "org.qemu.guest_agent.0"

log = structlog.get_logger("agent")


def freeze(domain: Any, mark: Path) -> str:
    """Empty when the file systems are frozen, else why not: then nothing was changed, or it is taken back."""
    if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
        return "The guest is not running."
    if not agent_connected(domain):
        return "No guest agent answers in it."
    mark.touch()
    domain.agentSetResponseTimeout(FREEZE_SECONDS, 0)
    try:
        domain.fsFreeze()
    except libvirt.libvirtError as error:
        _try_to_thaw(domain, mark)  # it may have come half way, or come there after all
        return f"Its guest agent could not: {error.get_error_message()}."
    finally:
        domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
    return ""


def thaw(domain: Any, mark: Path) -> None:
    """Let its programs write again. Raises `libvirtError` when it does not answer; the mark stays then."""
    if domain.isActive():
        domain.agentSetResponseTimeout(THAW_SECONDS, 0)
        try:
            domain.fsThaw()
        finally:
            domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
    elif domain.hasManagedSaveImage(0):
        return  # its memory is on disk, frozen file systems included
    mark.unlink(missing_ok=True)


def _try_to_thaw(domain: Any, mark: Path) -> None:
    try:
        thaw(domain, mark)
    except libvirt.libvirtError as error:
        log.warning("a guest is not thawed yet", server_id=domain.UUIDString(), error=str(error))


def agent_connected(domain: Any) -> bool:
    """Whether a guest agent has opened its side of the channel."""
    for channel in fromstring(domain.XMLDesc()).findall("devices/channel/target"):
        if channel.get("name") == CHANNEL:
            return channel.get("state") == "connected"
    return False


class Freezing:
    """Who may freeze a guest of one host now, and the look for those that were left frozen."""

    def __init__(self, connection: Connection, files: HostFiles) -> None:
        self._connection = connection
        self._files = files
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def alone(self, server_id: str) -> asyncio.Lock:
        """Held by whoever freezes a guest until it is thawed."""
        return self._locks[server_id]

    async def thaw_left(self, server_id: str, files: GuestFiles) -> None:
        """Thaw a guest that was left frozen; one that does not answer is asked again with the next look."""
        async with self.alone(server_id):
            if files.frozen.exists():
                guest = Guest(self._connection, server_id)
                await guest.call(lambda domain: _try_to_thaw(domain, files.frozen))

    async def look(self) -> None:
        """Again and again, as long as the driver is open."""
        while True:
            for mark in await asyncio.to_thread(lambda: list(self._files.guests.glob("*/frozen"))):
                try:
                    await self.thaw_left(mark.parent.name, self._files.guest(mark.parent.name))
                except OrderFailed as error:
                    log.warning("a guest is not thawed yet", server_id=mark.parent.name, error=error.fault.message)
            self._locks = defaultdict(asyncio.Lock, {id_: lock for id_, lock in self._locks.items() if lock.locked()})
            await asyncio.sleep(LOOK_SECONDS)
