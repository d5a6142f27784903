"""Volumes and network interfaces that come and go while a server lives: seen, used and found again by the guest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openstack
import pytest

from tests.life import MARKS, REACHABLE, SETTLE_SECONDS, Guest, World, wait_until

pytestmark = MARKS


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, list[str]]:
    return world.leftovers()


@pytest.fixture(scope="module")
def guests(world: World, before: dict[str, list[str]]) -> Iterator[list[Guest]]:
    guests = [world.create(f"devices-{number}") for number in (1, 2)]
    for guest in guests:
        guest.settles("ACTIVE")
        guest.boots()
    yield guests
    for guest in guests:
        guest.delete()
    assert world.left_since(before) == {}


@pytest.fixture(scope="module")
def volume(world: World, guests: list[Guest]) -> Iterator[Any]:
    volume = world.cloud.block_storage.create_volume(name="life", size=1)
    has(world, volume, "available")
    yield volume
    world.cloud.block_storage.delete_volume(volume)
    world.cloud.block_storage.wait_for_delete(volume, interval=0.2, wait=120)


def has(world: World, volume: Any, status: str) -> Any:
    def there() -> Any:
        found = world.cloud.block_storage.get_volume(volume.id)
        assert "error" not in found.status
        return found if found.status == status else None

    return wait_until(there, f"the volume is {status}")


def attach(world: World, guest: Guest, volume: Any, **fields: Any) -> Any:
    """Until the guest has it."""
    world.cloud.compute.create_volume_attachment(guest.id, volume_id=volume.id, **fields)
    attached = has(world, volume, "in-use")
    assert f"serial={volume.id[:20]}" in guest.says("CHRONOVA-HOTPLUG add disk")
    return attached


def detach(world: World, guest: Guest, volume: Any) -> None:
    world.cloud.compute.delete_volume_attachment(guest.id, volume.id)
    has(world, volume, "available")


def test_a_volume_is_written_in_one_guest_and_read_in_another(world: World, guests: list[Guest], volume: Any) -> None:
    first, second = guests
    attached = attach(world, first, volume)
    assert [(one["server_id"], one["device"]) for one in attached.attachments] == [(first.id, "/dev/vdb")]
    assert first.run("cat /sys/block/vdb/size") == str(1024 * 2048)
    first.run("echo written by the first | dd of=/dev/vdb conv=fsync")
    with pytest.raises(openstack.exceptions.BadRequestException):
        world.cloud.compute.create_volume_attachment(second.id, volume_id=volume.id)
    detach(world, first, volume)
    assert first.run("ls /sys/block | grep -c vd") == "1"
    attach(world, second, volume)
    assert second.run("head -n 1 /dev/vdb") == "written by the first"
    second.do("reboot_server", "ACTIVE", "HARD")
    assert second.boots()["vdb"] == "1024M"
    second.run("true")
    detach(world, second, volume)


def test_a_volume_is_extended_and_restored_from_its_snapshot(world: World, guests: list[Guest], volume: Any) -> None:
    storage = world.cloud.block_storage
    snapshot = storage.create_snapshot(volume_id=volume.id, name="life")
    storage.wait_for_status(snapshot, "available", failures=["error"], interval=0.2)
    storage.extend_volume(volume, 2)
    has(world, volume, "available")
    copy = storage.create_volume(name="copy", snapshot_id=snapshot.id, size=1)
    has(world, copy, "available")
    first = guests[0]
    attach(world, first, copy, delete_on_termination=False)
    attach(world, first, volume)
    assert first.run("head -n 1 /dev/vdb; cat /sys/block/vdc/size") == "written by the first\n4194304"
    detach(world, first, copy)
    detach(world, first, volume)
    storage.delete_snapshot(snapshot)
    storage.wait_for_delete(snapshot, interval=0.2, wait=120)
    storage.delete_volume(copy)
    storage.wait_for_delete(copy, interval=0.2, wait=120)


def test_a_volume_in_use_is_copied_as_it_is_at_one_instant(world: World, guests: list[Guest], volume: Any) -> None:
    """What the guest wrote last is in the copy though nobody said sync: its file systems are frozen meanwhile."""
    storage, (first, second) = world.cloud.block_storage, guests
    attach(world, second, volume)
    second.run("mke2fs -q /dev/vdb; mkdir -p /run/v; mount -t ext4 /dev/vdb /run/v && echo before > /run/v/note")
    assert "status must be available, but current status is: in-use" in world.client(
        "--os-volume-api-version", "3.60", "volume", "snapshot", "create", "--volume", "life", "live", refused=True
    )
    made = json.loads(world.client("volume", "snapshot", "create", "--volume", "life", "--force", "-f", "json", "live"))
    snapshot = storage.get_snapshot(made["id"])
    storage.wait_for_status(snapshot, "available", failures=["error"], interval=0.2, wait=SETTLE_SECONDS)
    assert has(world, volume, "in-use").attachments[0]["server_id"] == second.id
    second.run("echo after > /run/v/note; sync")
    assert second.run("cat /run/v/note") == "after"
    world.client("volume", "create", "--snapshot", "live", "--size", "2", "of-live")
    copy = storage.find_volume("of-live")
    has(world, copy, "available")
    attach(world, first, copy)
    assert first.run("mkdir -p /run/v; mount -t ext4 /dev/vdb /run/v && cat /run/v/note; umount /run/v") == "before"
    assert ("snapshot_volume", None) in second.history()
    second.run("umount /run/v")
    detach(world, first, copy)
    detach(world, second, volume)
    storage.delete_volume(copy)
    storage.wait_for_delete(copy, interval=0.2, wait=120)
    world.client("volume", "snapshot", "delete", "live")
    storage.wait_for_delete(snapshot, interval=0.2, wait=120)


def test_interfaces_come_by_network_and_by_port_and_go(world: World, guests: list[Guest]) -> None:
    guest, network = guests[0], world.cloud.network
    net = network.create_network(name="second")
    subnet = network.create_subnet(network_id=net.id, ip_version=4, cidr="10.91.7.0/24", name="second")
    by_net = world.cloud.compute.create_server_interface(guest.id, net_id=net.id)
    ip = by_net.fixed_ips[0]["ip_address"]
    wait_until(lambda: ip in guest.run("ip -o addr show"), f"the guest has {ip}")
    port = network.create_port(network_id=net.id, fixed_ips=[{"subnet_id": subnet.id, "ip_address": "10.91.7.77"}])
    world.cloud.compute.create_server_interface(guest.id, port_id=port.id)
    wait_until(lambda: "10.91.7.77" in guest.run("ip -o addr show"), "the guest has the port's address")
    assert {one["addr"] for one in guest.server.addresses["second"]} == {ip, "10.91.7.77"}
    assert network.get_port(port.id).device_id == guest.id
    for gone in (by_net.port_id, port.id):
        world.cloud.compute.delete_server_interface(gone, server=guest.id)
    wait_until(lambda: len(list(world.cloud.compute.server_interfaces(guest.id))) == 1, "both are gone")
    assert guest.run("ls -d /sys/class/net/eth* | wc -l") == "1"
    wait_until(lambda: not network.get_port(port.id).device_id, "the port is free")
    assert guest.answers() == REACHABLE
    network.delete_port(port)
    network.delete_subnet(subnet)
    network.delete_network(net)


def test_security_groups_are_kept_with_the_server(world: World, guests: list[Guest]) -> None:
    group = world.cloud.network.create_security_group(name="life")
    guest = guests[0]
    world.cloud.compute.add_security_group_to_server(guest.id, "life")
    assert {one["name"] for one in guest.server.security_groups} == {"default", "life"}
    world.cloud.compute.remove_security_group_from_server(guest.id, "life")
    assert [one["name"] for one in guest.server.security_groups] == ["default"]
    world.cloud.network.delete_security_group(group)


def test_a_volume_that_goes_with_its_server(world: World, guests: list[Guest]) -> None:
    volume = world.cloud.block_storage.create_volume(name="goes", size=1)
    has(world, volume, "available")
    attach(world, guests[1], volume, delete_on_termination=True)
    guests[1].delete()
    world.cloud.block_storage.wait_for_delete(volume, interval=0.2, wait=120)


def test_the_history_tells_all_of_it(guests: list[Guest]) -> None:
    actions = [action for action, message in guests[0].history() if message is None]
    assert actions.count("attach_volume") == actions.count("detach_volume") == 4
    assert actions.count("attach_interface") == actions.count("detach_interface") == 2
