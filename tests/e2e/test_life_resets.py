"""A reset in the middle of plugging, on a real guest: what the guest has afterwards is what the log says.

The host's agent stands still with the order in hand, and the guest is changed as it would have changed it: that is how
one is found that was killed in the middle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt
import pytest

from tests.e2e.test_life_devices import detach, has
from tests.e2e.test_life_kills import held
from tests.life import MARKS, Guest, World, wait_until

pytestmark = MARKS
LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
UNPLUG_EVENT = "/sys/firmware/acpi/interrupts/gpe01"  # by which a guest hears of what is plugged in and out


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, list[str]]:
    return world.leftovers()


@pytest.fixture(scope="module")
def guest(world: World, before: dict[str, list[str]]) -> Iterator[Guest]:
    guest = world.create("resets")
    guest.settles("ACTIVE")
    guest.boots()
    yield guest
    guest.delete()
    assert world.left_since(before) == {}


@contextmanager
def a_volume(world: World, name: str) -> Iterator[Any]:
    volume = world.cloud.block_storage.create_volume(name=name, size=1)
    yield has(world, volume, "available")
    world.cloud.block_storage.delete_volume(volume)
    world.cloud.block_storage.wait_for_delete(volume, interval=0.2, wait=120)


def attach(world: World, guest: Guest, volume: Any) -> None:
    world.cloud.compute.create_volume_attachment(guest.id, volume_id=volume.id)
    has(world, volume, "in-use")
    wait_until(lambda: "vdb" in disks(guest), "the guest has the disk")


def disk_of(world: World, volume: Any) -> str:
    """The device, as the agent would plug it in."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><target dev='vdb' bus='virtio'/>"
        f"<source file='{world.data / 'volumes' / volume.id}'/><serial>{volume.id}</serial></disk>"
    )


def disks(guest: Guest) -> list[str]:
    return guest.run("ls /sys/block | grep vd").split()


def newest(world: World, guest: Guest) -> dict[str, Any]:
    """The last action, as the history has it."""
    with world.system.client() as client:
        (found,) = client.get(f"/v1/servers/{guest.id}/history", params={"limit": 1}).json()["actions"]
    return dict(found)


def test_a_disk_that_was_being_plugged_in_is_out_before_its_volume_is_free(world: World, guest: Guest) -> None:
    with a_volume(world, "reset-attach") as volume:
        with held(world, guest.host):
            world.cloud.compute.create_volume_attachment(guest.id, volume_id=volume.id)
            has(world, volume, "attaching")
            guest.domain.attachDeviceFlags(disk_of(world, volume), LIVE)
            wait_until(lambda: "vdb" in disks(guest), "the guest has the disk")
            world.admin.compute.reset_server_state(guest.id, "active")
            assert list(world.cloud.compute.volume_attachments(guest.id)) == []
            assert world.cloud.block_storage.get_volume(volume.id).status == "attaching"
        has(world, volume, "available")
        assert disks(guest) == ["vda"]


def test_a_disk_that_was_being_taken_out_is_there_again(world: World, guest: Guest) -> None:
    with a_volume(world, "reset-detach") as volume:
        attach(world, guest, volume)
        guest.run("echo kept | dd of=/dev/vdb conv=fsync")
        with held(world, guest.host):
            world.cloud.compute.delete_volume_attachment(guest.id, volume.id)
            has(world, volume, "detaching")
            guest.domain.detachDeviceFlags(disk_of(world, volume), LIVE)
            wait_until(lambda: disks(guest) == ["vda"], "the guest let go of the disk")
            world.admin.compute.reset_server_state(guest.id, "active")
        has(world, volume, "in-use")
        wait_until(lambda: "vdb" in disks(guest), "the guest has the disk")
        assert guest.run("head -n 1 /dev/vdb") == "kept"
        detach(world, guest, volume)


def test_a_paused_guest_is_not_asked_for_its_disk(world: World, guest: Guest) -> None:
    with a_volume(world, "paused") as volume:
        attach(world, guest, volume)
        guest.do("pause_server", "PAUSED")
        world.cloud.compute.delete_volume_attachment(guest.id, volume.id)
        wait_until(lambda: newest(world, guest)["result"] == "Error", "the detach has failed")
        assert "Unpause the server first" in json.dumps(newest(world, guest))
        has(world, volume, "in-use")
        guest.do("unpause_server", "ACTIVE")
        assert [one.volume_id for one in world.cloud.compute.volume_attachments(guest.id)] == [volume.id]
        assert disks(guest) == ["vda", "vdb"]
        detach(world, guest, volume)
        assert disks(guest) == ["vda"]


def test_a_disk_that_the_guest_lets_go_of_late_is_detached(world: World, guest: Guest) -> None:
    """It is asked, and hears of that when nobody waits for its answer any more."""
    with a_volume(world, "late") as volume:
        attach(world, guest, volume)
        guest.run(f"echo mask > {UNPLUG_EVENT}")
        world.cloud.compute.delete_volume_attachment(guest.id, volume.id)
        wait_until(lambda: " STS " in guest.run(f"cat {UNPLUG_EVENT}"), "the guest is asked")
        world.admin.compute.reset_server_state(guest.id, "active")
        has(world, volume, "in-use")
        assert disks(guest) == ["vda", "vdb"]
        guest.run(f"echo unmask > {UNPLUG_EVENT}")
        has(world, volume, "available")
        assert disks(guest) == ["vda"]
        assert "vdb" not in guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert list(world.cloud.compute.volume_attachments(guest.id)) == []
        assert guest.history()[-1] == ("detach_volume", None)


def test_a_swap_is_turned_back(world: World, guest: Guest) -> None:
    with a_volume(world, "reset-old") as old, a_volume(world, "reset-new") as new:
        attach(world, guest, old)
        guest.run("echo kept | dd of=/dev/vdb conv=fsync")
        with held(world, guest.host):
            body = {"volumeAttachment": {"volumeId": new.id}}
            path = f"/servers/{guest.id}/os-volume_attachments/{old.id}"
            assert world.admin.compute.put(path, json=body, microversion="2.96").status_code == 202
            has(world, old, "detaching")
            world.admin.compute.reset_server_state(guest.id, "active")
        has(world, new, "available")
        has(world, old, "in-use")
        assert guest.run("head -n 1 /dev/vdb") == "kept"
        detach(world, guest, old)


def test_an_interface_that_was_being_plugged_in_is_out_before_its_port_is_free(world: World, guest: Guest) -> None:
    network = world.cloud.network
    private = next(iter(world.cloud.compute.server_interfaces(guest.id))).net_id
    port = network.create_port(network_id=private)
    with held(world, guest.host):
        with world.system.client() as client:  # the compute API would wait until the guest has it
            given = {"type": "attach-interface", "server_id": guest.id, "params": {"port_id": port.id}}
            assert client.post("/v1/commands", json=given).status_code == 202
        wait_until(lambda: network.get_port(port.id).device_id == guest.id, "the port is bound")
        nic = f"<interface type='user'><mac address='{port.mac_address}'/><model type='virtio'/></interface>"
        guest.domain.attachDeviceFlags(nic, LIVE)
        wait_until(lambda: port.mac_address in guest.run("ip link"), "the guest has the interface")
        world.admin.compute.reset_server_state(guest.id, "active")
    wait_until(lambda: network.get_port(port.id).device_id == "", "the port is free")
    assert port.mac_address not in guest.run("ip link")
    network.delete_port(port)
