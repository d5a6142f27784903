"""Devices that their owner gave a tag: where the guest finds them on its buses, for its config drive.

The form is Nova's (https://docs.openstack.org/nova/latest/user/metadata.html). Pure: the guest's spec and libvirt's
definition of it go in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from domain.orders import GuestSpec
from hypervisor_agent.libvirt.domain_xml import target


def any_tagged(spec: GuestSpec) -> bool:
    return bool(spec.root_tag) or any(nic.tag for nic in spec.nics) or any(volume.tag for volume in spec.volumes)


def devices(spec: GuestSpec, definition: Element, own_disk: Path) -> list[dict[str, Any]]:
    """The tagged devices that are in the definition: a rescued guest is without its volumes. `own_disk`: the file that
    was made of its image, which a rescued guest has elsewhere.
    """
    nics = {nic.mac.lower(): nic for nic in spec.nics if nic.tag}
    volumes = {target(volume.device): volume for volume in spec.volumes if volume.tag and volume.device}
    found: list[dict[str, Any]] = []
    for interface in definition.findall("devices/interface"):
        nic = nics.get(_attribute(interface, "mac", "address").lower())
        if nic is not None:
            found.append({"type": "nic", "mac": nic.mac} | _place(interface) | {"tags": [nic.tag]})
    for disk in definition.findall("devices/disk"):
        volume = volumes.get(_attribute(disk, "target", "dev"))
        if volume is not None and disk.findtext("serial") == volume.id:
            known = {"type": "disk", "serial": volume.id, "path": volume.device}
            found.append(known | _place(disk) | {"tags": [volume.tag]})
        elif spec.root_tag and _attribute(disk, "source", "file") == str(own_disk):
            path = f"/dev/{_attribute(disk, 'target', 'dev')}"
            found.append({"type": "disk", "path": path} | _place(disk) | {"tags": [spec.root_tag]})
    return found


def _place(device: Element) -> dict[str, str]:
    address = device.find("address")
    if address is None or address.get("type") != "pci":
        return {"bus": "none", "address": "none"}
    domain, bus, slot, function = (int(address.get(part, "0"), 16) for part in ("domain", "bus", "slot", "function"))
    return {"bus": "pci", "address": f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"}


def _attribute(device: Element, part: str, name: str) -> str:
    found = device.find(part)
    return "" if found is None else found.get(name, "")
