"""Devices taken out of a guest that runs: asked for, remembered, and found when the guest lets go of them late.

A guest cannot be asked to forget the question. When its answer comes after the order gave up waiting (it was booting,
or busy), the device is gone all the same. So the record says what was asked before it is asked, until the device is
seen out or plugged in anew; whoever looks at the guest tells what is gone by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.record import GuestRecord
from hypervisor_agent.libvirt.work import Work


async def unplug(work: Work, device_id: str, find: Callable[[Any], Element | None], what: str) -> None:
    """Wait until the guest, which runs, has let go. `find` sees the device in the live domain.

    Raises `OrderFailed`: at once for a paused guest (guest_paused), which would answer only when it goes on, and
    after a while for one that does not answer (device_busy).
    """
    if await work.guest.call(find) is None:
        return
    if await work.guest.power_state() == "paused":
        raise OrderFailed("guest_paused", f"A paused guest cannot {what}. Unpause the server first, then try again.")
    record = work.record
    if device_id not in record.letting_go:
        record.letting_go = (*record.letting_go, device_id)
        work.remember(record)
    await work.guest.unplug(find, what)


def settled(record: GuestRecord, device_id: str) -> None:
    """The device is out, or plugged in anew: no answer is to be expected any more."""
    record.letting_go = tuple(one for one in record.letting_go if one != device_id)


def let_go(domain: Any, record: GuestRecord) -> tuple[str, ...]:
    """The ids of what is to be there, was asked for, and is gone. Blocking. A guest that is off starts with them."""
    if not record.letting_go or not domain.isActive():
        return ()
    devices = fromstring(domain.XMLDesc())
    disks = {disk.findtext("serial") for disk in devices.findall("devices/disk")}
    files = {source.get("file") for source in devices.findall("devices/disk/source")}
    macs = {mac.get("address") for mac in devices.findall("devices/interface/mac")}
    volumes = (one.id for one in record.spec.volumes if one.id not in disks and one.path not in files)
    ports = (one.port_id for one in record.spec.nics if one.mac.lower() not in macs)
    return tuple(one for one in (*volumes, *ports) if one in record.letting_go)
