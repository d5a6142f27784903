"""Image properties that ask for hardware: served, or refused by name before anything is made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from domain import decide
from domain.decide import Context, NewServer
from domain.errors import Invalid
from domain.image_properties import must_be_served
from domain.order_of import Lookups, guest_of
from domain.server import FlavorSnapshot, Server
from hypervisor_agent.libvirt.domain_xml import HostTraits, domain_xml
from hypervisor_agent.libvirt.files import GuestFiles
from hypervisor_agent.libvirt.record import GuestRecord

FLAVOR = FlavorSnapshot(id="1", name="m1.nano", vcpus=1, ram=96, disk=1)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw_disk_bus", "scsi"),
        ("hw_disk_bus", "ide"),
        ("hw_vif_model", "e1000"),
        ("hw_firmware_type", "uefi"),
        ("hw_tpm_model", "tpm-crb"),
        ("hw_rescue_bus", "usb"),
        ("hw_qemu_guest_agent", "perhaps"),
        ("os_secure_boot", "required"),
    ],
)
def test_what_no_guest_has_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(Invalid, match=f"Invalid image metadata. Error: {name}={value} is not offered") as refused:
        must_be_served({"os_distro": "debian", name: value})
    assert f"--property {name}" in refused.value.hint


def test_what_every_guest_has_and_what_asks_for_nothing_is_taken() -> None:
    must_be_served({"hw_disk_bus": "VirtIO", "hw_rng_model": "virtio", "hw_qemu_guest_agent": "yes", "os_distro": "x"})


def new_server(properties: dict[str, str]) -> list[object]:
    fields: dict[str, Any] = {
        "project_id": "p",
        "user_id": "u",
        "hostname": "web",
        "instance_name": "i-1",
        "reservation_id": "r-1",
    }
    new = NewServer(id="server-1", name="web", flavor=FLAVOR, image_id="image-1", image_properties=properties, **fields)
    return list(decide.create(new, Context(now=NOW, request_id="req-1", user_id="u", project_id="p")))


def test_a_server_is_not_begun_with_them() -> None:
    assert new_server({"hw_disk_bus": "virtio"})
    with pytest.raises(Invalid, match="hw_disk_bus=sata"):
        new_server({"hw_disk_bus": "sata"})


@pytest.mark.parametrize(("properties", "there"), [({}, True), ({"hw_qemu_guest_agent": "no"}, False)])
def test_the_guest_agents_channel_is_there_unless_the_image_says_no(
    tmp_path: Path, properties: dict[str, str], there: bool
) -> None:
    server = Server(id="server-1", flavor=FLAVOR, image_id="image-1", image_properties=properties)
    record = GuestRecord(guest_of(server, Lookups()))
    files = GuestFiles(tmp_path, *(tmp_path / kind for kind in ("serial", "vnc", "agent")))
    devices = fromstring(domain_xml(record, files, HostTraits("host-1", "qemu", bridged=False))).find("devices")
    assert devices is not None
    names = [channel.get("name") for channel in devices.findall("channel/target")]
    assert names == (["org.qemu.guest_agent.0"] if there else [])
