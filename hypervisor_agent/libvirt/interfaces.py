"""Interfaces: plugged in and out, live and for the next start. The MAC is what tells them apart."""

from __future__ import annotations

from functools import partial
from typing import Any
from xml.etree.ElementTree import Element, fromstring, tostring

import libvirt
import msgspec

from domain.orders import NicSpec
from hypervisor_agent.libvirt import unplugging
from hypervisor_agent.libvirt.domain_xml import nic_element
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]


async def attach(work: Work) -> Details:
    record = work.record
    nic = msgspec.convert(work.order.params["nic"], NicSpec)
    if await work.guest.active():
        with work.step("plug interface in", 30):
            await work.services.connection.run(work.services.networks.ensure, (nic,))
            if await work.guest.call(lambda domain: _find(domain, mac=nic.mac)) is None:
                xml = tostring(nic_element(nic, work.services.traits), encoding="unicode")
                await work.guest.call(lambda domain: domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE))
                unplugging.settled(record, nic.port_id)
    others = tuple(known for known in record.spec.nics if known.mac != nic.mac)
    record.spec = msgspec.structs.replace(record.spec, nics=(*others, nic))
    work.remember(record)
    with work.step("define guest", 80):
        await work.define()
    return {}


async def detach(work: Work) -> Details:
    record = work.record
    nic = msgspec.convert(work.order.params["nic"], NicSpec)
    if await work.guest.active():
        with work.step("unplug interface", 30):
            find = partial(_find, mac=nic.mac)
            await unplugging.unplug(work, nic.port_id, find, f"let go of interface {nic.mac}")
    unplugging.settled(record, nic.port_id)
    kept = tuple(known for known in record.spec.nics if known.mac != nic.mac)
    record.spec = msgspec.structs.replace(record.spec, nics=kept)
    work.remember(record)
    with work.step("define guest", 80):
        await work.define()
        await work.services.connection.run(work.services.networks.remove_unused, (nic,))
    return {}


def _find(domain: Any, *, mac: str) -> Element | None:
    for interface in fromstring(domain.XMLDesc()).findall("devices/interface"):
        address = interface.find("mac")
        if address is not None and address.get("address") == mac.lower():
            return interface
    return None
