"""What a guest is told of its server, by its config drive: at its birth, and anew whenever it starts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.client_shell import Answer, Shell
from tests.life import MARKS, Guest, World, wait_until

pytestmark = MARKS

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMdDfumvTJleEpgohqYY5dq5xicytjjNcPMO3x54cKzp me@here"
USER_DATA = "#!/bin/sh\ncp $0 /data/root/ran\n"
META_DATA = "/run/config/openstack/latest/meta_data.json"
# What Nova's own meta_data.json has, of every server.
ALWAYS = {
    *("uuid", "name", "hostname", "project_id", "availability_zone", "launch_index", "random_seed"),
    *("devices", "dedicated_cpus", "meta"),
}


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, list[str]]:
    return world.leftovers()


@pytest.fixture(scope="module")
def shell(world: World) -> Iterator[Shell]:
    shell = Shell(world.system.ready["clouds_yaml"])
    yield shell
    shell.close()


def typed(shell: Shell, *words: str) -> Answer:
    answer = shell.run(["--os-cloud", "chronova", *words])
    assert answer.code == 0, answer.complained
    return answer


@pytest.fixture(scope="module")
def guest(
    world: World, before: dict[str, list[str]], shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """Made as a user would type it, with everything that a guest can be told."""
    files = tmp_path_factory.mktemp("told")
    (files / "key.pub").write_text(KEY)
    (files / "user-data").write_text(USER_DATA)
    typed(shell, "keypair", "create", "--public-key", str(files / "key.pub"), "told")
    network = world.cloud.network.find_network("private").id
    image = world.cloud.image.find_image("tiny").id
    root = f"uuid={image},source_type=image,destination_type=local,boot_index=0,tag=system"
    blank = "source_type=blank,destination_type=volume,volume_size=1,delete_on_termination=true,tag=scratch"
    given = ("--key-name", "told", "--user-data", str(files / "user-data"), "--property", "role=db", "--tag", "blue")
    named = ("--hostname", "inside", "--description", "looks inside", "--nic", f"net-id={network},tag=front")
    disks = ("--block-device", root, "--block-device", blank)
    words = ("--flavor", "m1.nano", *disks, *given, *named, "--wait", "-f", "json")
    made = typed(shell, "server", "create", *words, "Told Server").told
    guest = Guest(world, made["id"])
    yield guest
    guest.delete()
    world.cloud.compute.delete_keypair("told")
    assert world.left_since(before) == {}


def told(guest: Guest) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(guest.run(f"cat {META_DATA}"))
    return read


def seen_there(guest: Guest, device: dict[str, Any]) -> str:
    """What the guest itself has on its bus where the device is said to be: a NIC's MAC or a disk's serial."""
    assert device["bus"] == "pci"
    kind = "net/*/address" if device["type"] == "nic" else "block/*/serial"
    return guest.run(f"cat /sys/bus/pci/devices/{device['address']}/virtio*/{kind}")


def test_a_server_that_boots_reads_all_that_its_owner_gave_it(world: World, guest: Guest) -> None:
    """Without `--config-drive`, too: the server shows none then, as with Nova, and its guest has one all the same."""
    said = guest.boots()
    server, read = guest.server, told(guest)
    assert (said["host"], guest.run("hostname"), server.hostname) == ("inside", "inside", "inside")
    assert (server.name, server.description, server.has_config_drive) == ("Told Server", "looks inside", "True")
    assert set(read) == ALWAYS | {"public_keys", "keys", "admin_pass"}
    assert (read["uuid"], read["name"], read["hostname"]) == (guest.id, "Told Server", "inside")
    assert (read["project_id"], read["availability_zone"]) == (server.project_id, server.availability_zone)
    assert (read["meta"], read["launch_index"]) == ({"role": "db"}, 0)
    assert (read["public_keys"], read["keys"]) == (
        {"told": KEY},
        [{"name": "told", "type": "ssh", "data": KEY}],
    )
    assert len(base64.b64decode(read["random_seed"])) == 512
    assert guest.run("cat /data/root/.ssh/authorized_keys") == KEY
    guest.says("CHRONOVA-USERDATA exit=0")
    assert guest.run("cat /data/root/ran") == USER_DATA.strip()


def test_devices_with_a_tag_are_where_the_guest_is_told(world: World, guest: Guest) -> None:
    (port,) = world.cloud.network.ports(device_id=guest.id)
    (volume,) = guest.server.attached_volumes
    devices = {one["tags"][0]: one for one in told(guest)["devices"]}
    assert set(devices) == {"front", "scratch", "system"}
    assert devices["system"]["path"] == "/dev/vda"
    place = devices["system"]["address"]
    assert guest.run(f"ls /sys/bus/pci/devices/{place}/virtio*/block") == "vda"
    assert devices["front"]["mac"] == seen_there(guest, devices["front"]) == port.mac_address
    assert devices["scratch"]["serial"] == volume.id
    assert seen_there(guest, devices["scratch"]) == volume.id[:20]  # as much as virtio carries
    assert devices["scratch"]["path"] == "/dev/vdb"


def test_what_changed_is_told_at_the_next_start(world: World, guest: Guest, shell: Shell) -> None:
    """A name is not a hostname. Devices that came with a tag are told with those that were there."""
    new = ("--name", "told", "--hostname", "renamed", "--property", "role=web")
    typed(shell, "server", "set", *new, "Told Server")
    typed(shell, "server", "add", "network", "--tag", "back", "told", "private")
    volume = world.cloud.block_storage.create_volume(name="told", size=1)
    world.cloud.block_storage.wait_for_status(volume, "available", failures=["error"], interval=0.2)
    typed(shell, "server", "add", "volume", "--tag", "more", "--enable-delete-on-termination", "told", "told")
    wait_until(lambda: len(guest.server.attached_volumes) == 2, "the volume is the server's")
    wait_until(lambda: guest.run("ls /sys/block").count("vd") == 3, "the guest has it")
    assert guest.run("hostname") == "inside"
    guest.do("reboot_server", "ACTIVE", "HARD")
    assert guest.boots()["host"] == "renamed"
    read = told(guest)
    assert (read["name"], read["hostname"], read["meta"]) == ("told", "renamed", {"role": "web"})
    devices = {one["tags"][0]: one for one in read["devices"]}
    assert set(devices) == {"front", "back", "scratch", "more", "system"}
    macs = {port.mac_address for port in world.cloud.network.ports(device_id=guest.id)}
    assert {seen_there(guest, devices[tag]) for tag in ("front", "back")} == macs
    assert seen_there(guest, devices["more"]) == volume.id[:20]
    attached = {one.tag for one in world.cloud.compute.volume_attachments(guest.id)}
    assert attached == {"scratch", "more"}


def test_a_rebuild_tells_another_key_and_other_user_data(
    world: World, guest: Guest, shell: Shell, tmp_path: Path
) -> None:
    """The key is a certificate (2.2), made by an administrator (2.10), of a name that 2.92 allows."""
    key = {"name": "pem@told.key", "type": "x509", "public_key": pem(), "user_id": guest.server.user_id}
    made = world.admin.compute.post("/os-keypairs", json={"keypair": key}, microversion="2.92")
    assert (made.status_code, made.json()["keypair"]["type"]) == (201, "x509")
    (tmp_path / "other").write_text("#!/bin/sh\necho other > /data/root/ran\n")
    given = ("--key-name", "pem@told.key", "--user-data", str(tmp_path / "other"), "--name", "again")
    typed(shell, "server", "rebuild", "--image", "tiny", *given, "--hostname", "again", "--wait", "told")
    assert guest.boots()["host"] == "again"
    read = told(guest)
    assert read["keys"] == [{"name": "pem@told.key", "type": "x509", "data": key["public_key"].strip()}]
    assert (read["name"], read["hostname"], guest.server.key_name) == ("again", "again", "pem@told.key")
    assert {one["tags"][0] for one in read["devices"]} == {"front", "back", "scratch", "more", "system"}
    guest.says("CHRONOVA-USERDATA exit=0")
    assert guest.run("cat /data/root/ran") == "other"
    typed(shell, "keypair", "delete", "pem@told.key")


def pem() -> str:
    """A certificate of its own making."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "told")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=3650))
        .sign(key, None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def test_what_is_listed_is_what_the_guest_has(world: World, guest: Guest) -> None:
    """Addresses, security groups, the figures of both forms of diagnostics."""
    compute = world.admin.compute

    def get(what: str, version: str = "2.96") -> dict[str, Any]:
        return dict(compute.get(f"/servers/{guest.id}/{what}", microversion=version).json())

    inside = guest.run("ip -o -4 addr show scope global").splitlines()
    listed = {one["addr"] for one in get("ips")["addresses"]["private"]}
    assert listed == {line.split()[3].partition("/")[0] for line in inside}
    assert get("ips/private")["private"] == get("ips")["addresses"]["private"]
    (group,) = get("os-security-groups")["security_groups"]
    assert (group["name"], {rule["ip_protocol"] for rule in group["rules"]} >= {"icmp", "tcp"}) == ("default", True)
    figures = get("diagnostics")
    assert figures["config_drive"] is True
    shape = {"config_drive", "cpu_details", "disk_details", "driver", "hypervisor", "hypervisor_os", "memory_details"}
    assert set(figures) == shape | {"nic_details", "num_cpus", "num_disks", "num_nics", "state", "uptime"}
    assert (figures["num_cpus"], figures["num_nics"]) == (int(guest.run("nproc")), len(inside))
    macs = set(guest.run("cat /sys/class/net/eth*/address").split())
    assert {one["mac_address"] for one in figures["nic_details"]} == macs
    assert figures["num_disks"] == len(figures["disk_details"]) == len(guest.run("ls -d /sys/block/vd*").split()) + 1
    written = int(guest.run("awk '{print $7 * 512}' /sys/block/vda/stat"))
    flat = get("diagnostics", "2.1")
    assert flat["memory"] == figures["memory_details"]["maximum"] * 1024
    assert {"cpu0_time", "vda_read", "vdb_write_req", "vdc_read", "vnet0_rx", "vnet1_tx_packets"} <= set(flat)
    assert flat["vda_write"] >= written > 0
    (disk,) = {frozenset(one) for one in figures["disk_details"]}
    assert disk == {"read_bytes", "read_requests", "write_bytes", "write_requests", "errors_count"}


def test_news_from_outside_reach_the_guest(world: World, guest: Guest) -> None:
    """A volume that grew is seen, a power update is carried out, what concerns nobody is answered with its code."""
    volume = next(one.id for one in world.cloud.compute.volume_attachments(guest.id) if one.tag == "more")

    def send(*events: dict[str, str]) -> tuple[int, list[int]]:
        body = {"events": [{"server_uuid": guest.id} | event for event in events]}
        answer = world.admin.compute.post("/os-server-external-events", json=body, microversion="2.96")
        return answer.status_code, [one["code"] for one in answer.json().get("events", ())]

    disk = guest.run(f"grep -l {volume[:20]} /sys/block/vd*/serial").split("/")[3]
    world.cloud.block_storage.extend_volume(volume, 2)
    wait_until(lambda: guest.run(f"cat /sys/block/{disk}/size") == str(2 << 21), "the guest sees the new size")
    guest.settles("ACTIVE")
    stranger = {"server_uuid": "00000000-0000-0000-0000-00000000dead"}
    told = ({"name": "network-vif-plugged", "tag": "x"}, {"name": "volume-extended", "tag": volume})
    assert send(*told) == (200, [200, 200])
    wait_until(lambda: [one for one, _ in guest.history()].count("extend_volume") == 2, "it is in the history")
    guest.settles("ACTIVE")
    assert send(stranger | told[0], told[0], {"name": "volume-extended"}) == (207, [404, 200, 400])
    assert send(stranger | told[0]) == (404, [])
    assert send({"name": "power-update", "tag": "POWER_OFF"}) == (200, [200])
    guest.settles("SHUTOFF")
    assert not guest.domain.isActive()
    assert send({"name": "power-update", "tag": "POWER_ON"}) == (200, [200])
    guest.settles("ACTIVE")
    assert guest.boots()[disk] == "2048M"
