"""The config drive: what cloud-init and the tiny guest read from it."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pycdlib
import pytest
from msgspec.structs import replace

from domain.orders import AddressSpec, GuestSpec, NicSpec, VolumeSpec
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.config_drive import contents, write
from hypervisor_agent.libvirt.tagged import any_tagged, devices

SPEC = GuestSpec(
    server_id="0d2c1d1e-0000-4000-8000-000000000001",
    instance_name="instance-00000001",
    name="Grüße",
    hostname="web-1",
    project_id="demo",
    vcpus=1,
    memory_mb=96,
    disk_gb=1,
    nics=(
        NicSpec(
            "11111111-2222-3333-4444-555555555555",
            "net",
            "fa:16:3e:00:00:01",
            (
                AddressSpec("10.0.0.5", 22, "10.0.0.1", ("10.0.0.2", "10.0.0.3")),
                AddressSpec("fd00::5", 64, "fd00::1", version=6),
            ),
        ),
    ),
    ssh_public_keys=(("mine", "ssh-ed25519 AAAA me"),),
    user_data=base64.b64encode(b"#!/bin/sh\n").decode(),
    metadata={"role": "db"},
    admin_password="secret",
)


def test_network_data_has_the_addresses() -> None:
    data = json.loads(contents(SPEC, b"")["network_data.json"])
    (link,) = data["links"]
    assert (link["ethernet_mac_address"], link["mtu"]) == ("fa:16:3e:00:00:01", 1450)
    four, six = data["networks"]
    assert (four["ip_address"], four["netmask"], four["link"]) == ("10.0.0.5", "255.255.252.0", link["id"])
    assert four["routes"] == [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}]
    assert (six["type"], six["ip_address"]) == ("ipv6", "fd00::5/64")
    assert [service["address"] for service in data["services"]] == ["10.0.0.2", "10.0.0.3"]


def test_meta_data_and_user_data() -> None:
    files = contents(SPEC, b"seed")
    data = json.loads(files["meta_data.json"])
    assert (data["uuid"], data["name"], data["hostname"]) == (SPEC.server_id, "Grüße", "web-1")
    assert data["public_keys"] == {"mine": "ssh-ed25519 AAAA me"}
    assert data["keys"] == [{"name": "mine", "type": "ssh", "data": "ssh-ed25519 AAAA me"}]
    assert (data["meta"], data["admin_pass"]) == ({"role": "db"}, "secret")
    assert (base64.b64decode(data["random_seed"]), data["devices"]) == (b"seed", [])
    assert files["user_data"] == b"#!/bin/sh\n"


def test_an_empty_password_is_none_for_the_guest() -> None:
    spec = replace(SPEC, admin_password="")
    assert "admin_pass" not in json.loads(contents(spec, b"")["meta_data.json"])


def test_the_iso_is_labelled_and_keeps_lower_case_names(tmp_path: Path) -> None:
    files = contents(SPEC, b"seed")
    write(tmp_path / "config.iso", files)
    iso = pycdlib.PyCdlib()
    iso.open(str(tmp_path / "config.iso"))
    assert iso.pvd.volume_identifier.decode().strip() == "config-2"
    for name, content in files.items():
        for facade in ({"rr_path": f"/openstack/latest/{name}"}, {"joliet_path": f"/openstack/latest/{name}"}):
            read = BytesIO()
            iso.get_file_from_iso_fp(read, **facade)
            assert read.getvalue() == content
    iso.close()
    assert [path.name for path in tmp_path.iterdir()] == ["config.iso"]


def test_user_data_that_is_not_base64_is_refused() -> None:
    with pytest.raises(OrderFailed, match="not base64"):
        contents(replace(SPEC, user_data="x"), b"")


def test_a_certificate_is_told_as_one() -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    told = json.loads(contents(replace(SPEC, ssh_public_keys=(("pem", certificate),)), b"")["meta_data.json"])
    assert told["keys"] == [{"name": "pem", "type": "x509", "data": certificate}]
    assert told["public_keys"] == {"pem": certificate}


DEFINITION = """
<domain><devices>
  <disk><source file="/Guest/disk"/><target dev="vda"/></disk>
  <disk><target dev="vdb"/><serial>volume-1</serial>
    <address type="pci" domain="0x0000" bus="0x00" slot="0x0a" function="0x0"/></disk>
  <disk><target dev="vdc"/><serial>volume-2</serial></disk>
  <interface><mac address="fa:16:3e:00:00:01"/>
    <address type="pci" domain="0x0000" bus="0x00" slot="0x03" function="0x1"/></interface>
  <interface><mac address="fa:16:3e:00:00:02"/></interface>
</devices></domain>
"""


def test_only_devices_with_a_tag_are_told_and_where_they_are() -> None:
    nics = (
        NicSpec("port-1", "net", "FA:16:3E:00:00:01", tag="dmz"),
        NicSpec("port-2", "net", "fa:16:3e:00:00:02"),
    )
    volumes = (
        VolumeSpec("volume-1", "/1", device="/dev/vdb", tag="backup"),
        VolumeSpec("volume-2", "/2", device="/dev/vdc", tag="nowhere"),
        VolumeSpec("volume-3", "/3", device="/dev/vdd", tag="not plugged in"),
    )
    spec = replace(SPEC, nics=nics, volumes=volumes)
    assert any_tagged(spec)
    assert not any_tagged(SPEC)
    disk = {"type": "disk", "serial": "volume-1", "path": "/dev/vdb", "bus": "pci", "address": "0000:00:0a.0"}
    nic = {"type": "nic", "mac": "FA:16:3E:00:00:01", "bus": "pci", "address": "0000:00:03.1", "tags": ["dmz"]}
    second = {"type": "disk", "serial": "volume-2", "path": "/dev/vdc", "bus": "none", "address": "none"}
    found = devices(spec, fromstring(DEFINITION), Path("/Guest/disk"))
    assert found == [nic, disk | {"tags": ["backup"]}, second | {"tags": ["nowhere"]}]


def test_the_disk_of_the_image_is_told_where_it_is_even_beside_a_rescue_disk() -> None:
    spec = replace(SPEC, root_tag="system")
    assert any_tagged(spec)
    own = {"type": "disk", "path": "/dev/vda", "bus": "none", "address": "none", "tags": ["system"]}
    assert devices(spec, fromstring(DEFINITION), Path("/Guest/disk")) == [own]
    rescue = '<disk><source file="/Guest/disk.rescue"/><target dev="vda"/></disk>'
    beside = '<disk><source file="/Guest/disk"/><target dev="vdb"/></disk>'
    rescued = fromstring(f"<domain><devices>{rescue}{beside}</devices></domain>")
    assert devices(spec, rescued, Path("/Guest/disk")) == [own | {"path": "/dev/vdb"}]
