"""Security groups on real guests: what they let through, from the host and between guests, and how fast that changes.

A closed port that refuses a connection is reached; one behind a filter is silent.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openstack
import pytest

from hypervisor_agent.libvirt.files import HostFiles
from hypervisor_agent.libvirt.filters import PortFilters, possible
from tests.life import MARKS, Guest, World, wait_until

pytestmark = [*MARKS, pytest.mark.skipif(not possible(), reason="this machine cannot filter bridged packets")]
PORT = 22
TRY_SECONDS = 1.0


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, list[str]]:
    return world.leftovers()


@pytest.fixture(scope="module")
def guests(world: World, before: dict[str, list[str]]) -> Iterator[list[Guest]]:
    """Two guests, each in a group of its own that lets nobody in."""
    groups = [world.cloud.network.create_security_group(name=name) for name in ("front", "back")]
    guests = [world.create(f"{name}-guest", security_groups=[{"name": name}]) for name in ("front", "back")]
    for guest in guests:
        guest.settles("ACTIVE")
        guest.boots()
    yield guests
    for guest in guests:
        guest.delete()
    for group in groups:
        world.cloud.network.delete_security_group(group)
    assert world.left_since(before) == {}


@pytest.fixture
def front(guests: list[Guest]) -> Guest:
    return guests[0]


@pytest.fixture
def back(guests: list[Guest]) -> Guest:
    return guests[1]


@contextmanager
def rule(world: World, group: str, protocol: str, ports: str = "", **fields: str) -> Iterator[None]:
    """A rule that lets something in as long as the block lasts. `ports` is one, or two with a colon between."""
    network = world.cloud.network
    low, _, high = ports.partition(":")
    if ports:
        fields |= {"port_range_min": low, "port_range_max": high or low}
    made = network.create_security_group_rule(
        security_group_id=network.find_security_group(group).id, direction="ingress", protocol=protocol, **fields
    )
    yield
    network.delete_security_group_rule(made)


def reaches(address: str, port: int = PORT) -> bool:
    """Whether this host gets an answer of that port, be it a refusal."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.settimeout(TRY_SECONDS)
        try:
            probe.connect((address, port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True


def pings(address: str) -> bool:
    """Whether this host gets an echo."""
    echo = b"\x08\x00\xf7\xfe\x00\x01\x00\x00"  # type, code, checksum, identifier, sequence
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as probe:
        probe.settimeout(TRY_SECONDS)
        probe.sendto(echo, (address, 0))
        deadline = time.monotonic() + TRY_SECONDS
        try:
            while time.monotonic() < deadline:
                answer, (sender, _) = probe.recvfrom(1024)
                if sender == address and answer[20] == 0:
                    return True
        except TimeoutError:
            pass
    return False


def pings_from(guest: Guest, address: str, *words: str) -> bool:
    return guest.run(f"ping -c 1 -W 1 {' '.join(words)} {address} >/dev/null 2>&1; echo $?") == "0"


def connects_from(guest: Guest, address: str, port: int) -> bool:
    """Whether a guest gets an answer of that port, be it a refusal."""
    said = guest.run(f"nc -w 2 {address} {port} </dev/null 2>&1; echo $?")
    return said.endswith("0") or "refused" in said


def tables(filters: PortFilters) -> list[str]:
    """A host's tables in this network namespace."""
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, timeout=60, check=True)
    return sorted(line for line in listed.stdout.splitlines() if filters.table in line)


def port_of(world: World, guest: Guest) -> Any:
    return next(iter(world.cloud.network.ports(device_id=guest.id)))


def test_a_port_is_reached_as_long_as_a_rule_lets_it(world: World, front: Guest) -> None:
    assert not reaches(front.address)
    with rule(world, "front", "tcp", str(PORT)):
        wait_until(lambda: reaches(front.address), "the rule lets port 22 be reached")
        assert not reaches(front.address, PORT + 1)
        assert not pings(front.address)
    wait_until(lambda: not reaches(front.address), "port 22 is closed again")
    gateway = front.address.rsplit(".", 2)[0] + ".0.1"
    with rule(world, "front", "icmp", remote_ip_prefix=f"{gateway}/32"):
        wait_until(lambda: pings(front.address), "the rule lets pings of this host in")
        assert not reaches(front.address)
    wait_until(lambda: not pings(front.address), "pings are not let in any more")


def test_a_removed_rule_ends_the_connection_that_it_let_in(world: World, front: Guest) -> None:
    listens = "until grep -q ':08AE ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; do usleep 50000; done"  # on port 2222
    front.run(f"nc -l -p 2222 -e /bin/cat >/dev/null 2>&1 & {listens}")
    with socket.socket() as talk:
        talk.settimeout(60)
        with rule(world, "front", "tcp", "2000:3000"):
            wait_until(lambda: reaches(front.address, 2999), "the range is open")
            talk.connect((front.address, 2222))
            talk.sendall(b"one")
            assert talk.recv(100) == b"one"
        wait_until(lambda: not reaches(front.address, 2999), "the range is closed")
        talk.settimeout(TRY_SECONDS)

        def silent() -> bool:
            talk.sendall(b"two")
            try:
                talk.recv(100)
            except TimeoutError:
                return True
            return False

        wait_until(silent, "the connection that was let in has ended")


def test_a_guest_gets_answers_to_what_it_asks(front: Guest, back: Guest) -> None:
    gateway = front.address.rsplit(".", 2)[0] + ".0.1"
    wait_until(lambda: pings_from(front, gateway), "the guest reaches its gateway")
    assert not pings_from(front, back.address)
    assert not connects_from(front, back.address, PORT)


def test_a_remote_group_lets_its_members_in_and_nobody_else(world: World, front: Guest, back: Guest) -> None:
    group = world.cloud.network.find_security_group("front")
    with rule(world, "back", "tcp", "5432", remote_group_id=group.id):
        wait_until(lambda: connects_from(front, back.address, 5432), "the front reaches the back")
        assert not connects_from(front, back.address, 5433)
        assert not reaches(back.address, 5432)
        assert not connects_from(back, front.address, 5432)
        world.cloud.compute.remove_security_group_from_server(front.id, "front")
        wait_until(lambda: not connects_from(front, back.address, 5432), "who is not in the group is not let in")
        assert [one["name"] for one in front.server.security_groups or []] == []
        world.cloud.compute.add_security_group_to_server(front.id, "front")
        wait_until(lambda: connects_from(front, back.address, 5432), "who is in the group again is let in")
        assert [one["name"] for one in front.server.security_groups] == ["front"]


def test_a_group_is_given_to_a_server_and_taken_away(world: World, front: Guest) -> None:
    """Typed as users do."""
    group = world.cloud.network.create_security_group(name="open")
    world.client("security", "group", "rule", "create", "--protocol", "any", "open")
    world.client("server", "add", "security", "group", "front-guest", "open")
    wait_until(lambda: pings(front.address) and reaches(front.address), "everything is open")
    with pytest.raises(openstack.exceptions.ConflictException):
        world.cloud.network.delete_security_group(group)
    world.client("server", "remove", "security", "group", "front-guest", "open")
    wait_until(lambda: not pings(front.address) and not reaches(front.address), "everything is closed")
    world.cloud.network.delete_security_group(group)


def test_nobody_speaks_in_anothers_name(world: World, front: Guest) -> None:
    other = front.address.rsplit(".", 1)[0] + ".254"
    port = port_of(world, front)
    gateway = front.address.rsplit(".", 2)[0] + ".0.1"
    with rule(world, "front", "icmp"):
        wait_until(lambda: pings(front.address), "the guest answers")
        front.run(f"ip addr add {other}/32 dev eth0")
        assert not pings(other)
        assert not pings_from(front, gateway, "-I", other)
        world.client("port", "set", "--allowed-address", f"ip-address={other}", port.id)
        wait_until(lambda: pings(other), "an allowed address pair lets the guest answer for it")
        world.client("port", "set", "--no-allowed-address", port.id)
        wait_until(lambda: not pings(other), "nor without the pair")
        front.run(f"ip addr del {other}/32 dev eth0")
        front.run("ip link set eth0 down; ip link set eth0 address fa:16:3e:ff:ff:fe; ip link set eth0 up")
        assert not pings_from(front, gateway)
        front.run(f"ip link set eth0 down; ip link set eth0 address {port.mac_address}; ip link set eth0 up")
        wait_until(lambda: pings_from(front, gateway), "with its own MAC it is heard")


def test_a_port_without_security_lets_everything_through(world: World, front: Guest) -> None:
    port = port_of(world, front)
    world.client("port", "set", "--no-security-group", "--disable-port-security", port.id)
    wait_until(lambda: pings(front.address) and reaches(front.address), "everything is open")
    world.client("port", "set", "--enable-port-security", "--security-group", "front", port.id)
    wait_until(lambda: not pings(front.address) and not reaches(front.address), "everything is closed")
    assert [one["name"] for one in front.server.security_groups] == ["front"]


def test_filters_survive_what_happens_to_the_host(world: World, front: Guest) -> None:
    role = f"agent-{front.host}"
    with rule(world, "front", "tcp", str(PORT)):
        wait_until(lambda: reaches(front.address), "the rule lets port 22 be reached")
        front.do("reboot_server", "ACTIVE", "HARD")
        front.boots()
        wait_until(lambda: reaches(front.address), "the rule outlives a reboot")
        assert not pings(front.address)
        world.system.kill(role)
        wait_until(lambda: reaches(front.address), "the rule outlives the agent")
        assert not pings(front.address)
        filters = PortFilters(HostFiles(world.data / "agents" / front.host))
        there = tables(filters)
        assert len(there) == 2
        filters.remove()  # as `nft flush ruleset` does
        wait_until(lambda: tables(filters) == there, "the agent made its filters anew")
        assert not pings(front.address)
        wait_until(lambda: reaches(front.address), "with all their rules")
        agent = world.system.pids[role]
        os.kill(agent, signal.SIGSTOP)
    try:
        wait_until(lambda: reaches(front.address), "filters stay when their agent stands still")
    finally:
        os.kill(agent, signal.SIGCONT)
    wait_until(lambda: not reaches(front.address), "an agent that was away catches up")


def test_the_host_says_that_it_filters(world: World) -> None:
    with world.system.client("chronova-admin") as client:
        hosts = client.get("/v1/hosts").json()["hosts"]
    assert all(host["enforces_security_groups"] for host in hosts)
