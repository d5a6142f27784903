"""Networks of one's own as users type them: IPv4 and IPv6 inside the guest, addresses and ports that come and go."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.life import MARKS, REACHABLE, Guest, World, living, wait_until

pytestmark = MARKS
TRY_SECONDS = 2.0
FOUR, SIX, OWN = "10.89.5.0/24", "fd00:89:5::/64", "fd00:89:6::/64"


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, list[str]]:
    return world.leftovers()


@pytest.fixture(scope="module")
def both(world: World, before: dict[str, list[str]]) -> Iterator[Any]:
    """A network with IPv4, with IPv6 that is handed out, and with IPv6 that guests make from their MAC."""
    network = world.cloud.network
    net = network.create_network(name="both")
    stateful = {"ipv6_ra_mode": "dhcpv6-stateful", "ipv6_address_mode": "dhcpv6-stateful"}
    network.create_subnet(network_id=net.id, name="four", ip_version=4, cidr=FOUR)
    network.create_subnet(network_id=net.id, name="six", ip_version=6, cidr=SIX, **stateful)
    modes = ("--ip-version", "6", "--ipv6-ra-mode", "slaac", "--ipv6-address-mode", "slaac")
    world.client("subnet", "create", "--network", "both", *modes, "--subnet-range", OWN, "own")
    for protocol, version in (("icmp", "IPv6"), ("tcp", "IPv6")):
        group = network.find_security_group("default")
        network.create_security_group_rule(
            security_group_id=group.id, direction="ingress", ether_type=version, protocol=protocol
        )
    yield net
    world.client("network", "delete", "both")
    assert world.left_since(before) == {}


@pytest.fixture(scope="module")
def guest(world: World, both: Any) -> Iterator[Guest]:
    words = ("--image", "tiny", "--flavor", "m1.nano", "--wait", "two-families", "-f", "json")
    guest = Guest(world, json.loads(world.client("server", "create", "--network", "both", *words))["id"])
    guest.settles("ACTIVE")
    guest.boots()
    yield guest
    guest.delete()


def addresses(guest: Guest, network: str = "both") -> set[str]:
    return {one["addr"] for one in guest.server.addresses.get(network, [])}


def answers(address: str) -> bool:
    """Whether a closed port there refuses this host."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.settimeout(TRY_SECONDS)
        try:
            probe.connect((address, 9))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True


def test_a_guest_has_the_addresses_of_both_families(world: World, guest: Guest) -> None:
    (port,) = world.cloud.network.ports(device_id=guest.id)
    shown = addresses(guest)
    assert {ip["ip_address"] for ip in port.fixed_ips} == shown
    assert len(shown) == 3
    inside = guest.run("ip -o addr show dev eth0")
    assert all(f" {address}/" in inside for address in shown)
    tail = struct.pack("!8B", *_eui64(port.mac_address)).hex()
    (own,) = (one for one in shown if one.startswith("fd00:89:6:"))
    assert socket.inet_pton(socket.AF_INET6, own)[8:].hex() == tail
    assert "default via fd00:89:5::1" in guest.run("ip -6 route")
    if REACHABLE:
        for address in shown:
            wait_until(partial(answers, address), f"{address} answers")
        assert guest.run("ping -6 -c 1 -W 2 fd00:89:5::1 >/dev/null && echo yes") == "yes"


def _eui64(mac: str) -> list[int]:
    part = [int(one, 16) for one in mac.split(":")]
    return [part[0] ^ 2, *part[1:3], 0xFF, 0xFE, *part[3:]]


def test_addresses_come_and_go_as_typed(world: World, both: Any, guest: Guest) -> None:
    world.client("server", "add", "fixed", "ip", "--fixed-ip-address", "10.89.5.60", "two-families", "both")
    assert "10.89.5.60" in addresses(guest)
    port = next(one for one in world.cloud.network.ports(device_id=guest.id) if _has(one, "10.89.5.60"))
    listed = json.loads(world.client("port", "list", "--server", "two-families", "-f", "json", "-c", "ID"))
    assert port.id in {one["ID"] for one in listed}
    old = ("--os-compute-api-version", "2.43")  # the last that has this action
    world.client(*old, "server", "remove", "fixed", "ip", "two-families", "10.89.5.60")
    wait_until(lambda: "10.89.5.60" not in addresses(guest), "the address is gone")
    world.client("server", "remove", "port", "two-families", port.id)
    wait_until(lambda: len(list(world.cloud.compute.server_interfaces(guest.id))) == 1, "the port is gone")
    guest.settles("ACTIVE")


def test_a_port_gets_another_address_and_a_starting_guest_has_it(world: World, both: Any, guest: Guest) -> None:
    (port,) = world.cloud.network.ports(device_id=guest.id)
    first = next(ip for ip in port.fixed_ips if "." in ip["ip_address"])
    kept = [ip for ip in port.fixed_ips if ip is not first]
    world.cloud.network.update_port(port, fixed_ips=[*kept, first | {"ip_address": "10.89.5.80"}])
    assert "10.89.5.80" in addresses(guest)
    guest.do("reboot_server", "ACTIVE", "HARD")
    assert "10.89.5.80" in guest.boots()["ip"].split(",")
    if REACHABLE:
        wait_until(lambda: answers("10.89.5.80"), "it answers on its new address")


def _has(port: Any, address: str) -> bool:
    return any(ip["ip_address"] == address for ip in port.fixed_ips)


def test_a_port_is_made_changed_and_used(world: World, both: Any, guest: Guest) -> None:
    words = ("--network", "both", "--fixed-ip", "subnet=four,ip-address=10.89.5.70", "-f", "value", "-c", "id")
    port_id = world.client("port", "create", *words, "spare").strip()
    world.client("port", "set", "--description", "kept", "--tag", "blue", "spare")
    world.client("port", "unset", "--tag", "blue", "spare")
    port = world.cloud.network.get_port(port_id)
    assert (port.description, port.tags) == ("kept", [])
    world.client("server", "add", "port", "two-families", "spare")
    wait_until(lambda: "10.89.5.70" in guest.run("ip -o addr show"), "the guest has the port's address")
    assert "already has an attached device" in world.client("port", "delete", "spare", refused=True)
    in_use = ("--image", "tiny", "--flavor", "m1.nano", "--port", "spare", "second")
    assert "still in use" in world.client("server", "create", *in_use, refused=True)
    assert "in use" in world.client("network", "delete", "both", refused=True)
    world.client("server", "remove", "port", "two-families", "spare")
    wait_until(lambda: "10.89.5.70" not in addresses(guest), "the port is off the server")
    guest.settles("ACTIVE")
    world.client("port", "delete", "spare")


def test_a_second_system_on_this_machine_is_in_nobodys_way(
    world: World, guest: Guest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = next(one for one in addresses(guest) if "." in one)
    ranges = [next(iter(world.cloud.network.subnets(name="private-subnet"))).cidr]
    with living(tmp_path_factory.mktemp("second") / "data") as second:
        ranges.append(next(iter(second.cloud.network.subnets(name="private-subnet"))).cidr)
        assert ranges[0] != ranges[1]
        neighbour = second.create("neighbour")
        neighbour.settles("ACTIVE")
        neighbour.boots()
        if REACHABLE:
            assert neighbour.answers()
            wait_until(lambda: answers(first), "the first system's guest answers beside it")
        neighbour.delete()
    if REACHABLE:
        wait_until(lambda: answers(first), "and afterwards")
