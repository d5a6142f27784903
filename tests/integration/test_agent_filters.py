"""Port filters in the kernel of this machine: applied, kept, found again, and judged by packets.

Two namespaces stand for guests: their devices have the names that taps of real guests have.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from domain.filters import AddressPair, FilterRule, GroupFilter, HostFilters, PortFilter
from hypervisor_agent.libvirt.files import HostFiles
from hypervisor_agent.libvirt.filters import PortFilters, possible
from hypervisor_agent.libvirt.nft_rules import tap_name

pytestmark = [
    pytest.mark.skipif(not possible(), reason="this machine cannot filter bridged packets"),
    pytest.mark.xdist_group("bridges"),  # the same addresses, on this machine, in all of them
]
PORTS = {name: PortFilter(str(uuid4()), f"fa:16:3e:0f:0f:0{name}") for name in "12"}
CONNECT = """
import socket, sys
with socket.socket() as probe:
    probe.settimeout(2)
    try:
        probe.connect((sys.argv[1], int(sys.argv[2])))
    except ConnectionRefusedError:
        print("reached")
    except OSError as error:
        print(error)
"""


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


class Bridge:
    """A bridge in this namespace with two others behind it, at .1 (this one), .11 and .12 of a range for tests."""

    def __init__(self, filters: PortFilters) -> None:
        self.name = f"cvt-{uuid4().hex[:8]}"
        self.spaces = {name: f"cvt-{uuid4().hex[:8]}" for name in PORTS}
        run("ip", "link", "add", self.name, "type", "bridge")
        run("ip", "addr", "add", "198.51.100.129/28", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        for name, space in self.spaces.items():
            tap = tap_name(filters.taps, PORTS[name].port_id)
            run("ip", "netns", "add", space)
            run("ip", "link", "add", tap, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", tap, "master", self.name, "up")
            inside = ("ip", "-n", space)
            run(*inside, "link", "set", "eth0", "address", PORTS[name].mac)
            run(*inside, "addr", "add", f"{self.address(name)}/28", "dev", "eth0")
            run(*inside, "link", "set", "eth0", "up")

    def address(self, name: str) -> str:
        return f"198.51.100.13{name}"

    def reaches(self, name: str, port: int, start: str | None = None) -> bool:
        """Whether this host, or the guest `start`, is answered by a closed port of a guest."""
        prefix = ("ip", "netns", "exec", self.spaces[start]) if start else ()
        return run(*prefix, "python3", "-c", CONNECT, self.address(name), str(port)).strip() == "reached"

    def remove(self) -> None:
        for space in self.spaces.values():
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.name], capture_output=True, check=False)


@pytest.fixture
def filters(tmp_path: Path) -> Iterator[PortFilters]:
    (tmp_path / "host").mkdir()
    found = PortFilters(HostFiles(tmp_path / "host"))
    yield found
    found.remove()


@pytest.fixture
def bridge(filters: PortFilters) -> Iterator[Bridge]:
    made = Bridge(filters)
    yield made
    made.remove()


def order(bridge: Bridge, position: int, *rules: FilterRule) -> HostFilters:
    """The first guest is in the group `one`, the second in `two`, to which the rules belong."""
    ports = tuple(
        PortFilter(port.port_id, port.mac, (AddressPair(bridge.address(name), port.mac),), (group,))
        for (name, port), group in zip(PORTS.items(), ("one", "two"), strict=True)
    )
    out = FilterRule("egress", 4)
    one = GroupFilter("one", (out,), (bridge.address("1"),))
    return HostFilters("h", position, ports, (one, GroupFilter("two", (out, *rules))))


def test_packets_pass_by_the_rules_as_they_are_now(filters: PortFilters, bridge: Bridge) -> None:
    filters.order(HostFilters("h", 0))
    assert not bridge.reaches("1", 80)
    filters.order(order(bridge, 1, FilterRule("ingress", 4, 6, 80, 81)))
    assert [bridge.reaches("2", port) for port in (80, 81, 82)] == [True, True, False]
    assert bridge.reaches("2", 80, start="1")
    assert not bridge.reaches("1", 80, start="2")
    filters.order(order(bridge, 2, FilterRule("ingress", 4, group="one")))
    assert bridge.reaches("2", 99, start="1")
    assert not bridge.reaches("2", 80)
    filters.order(order(bridge, 3, FilterRule("ingress", 4, prefix="198.51.100.129/32")))
    assert bridge.reaches("2", 80)
    assert not bridge.reaches("2", 80, start="1")


def test_orders_are_kept_and_older_ones_ignored(filters: PortFilters, bridge: Bridge, tmp_path: Path) -> None:
    allowing = order(bridge, 7, FilterRule("ingress", 4))
    filters.order(allowing)
    filters.order(order(bridge, 6))
    assert bridge.reaches("2", 80)
    filters.remove()
    again = PortFilters(HostFiles(tmp_path / "host"))
    again.open()
    assert bridge.reaches("2", 80)
    assert not bridge.reaches("1", 80)
    again.order(HostFilters("h", 0))  # a greeting changes nothing
    assert bridge.reaches("2", 80)
    again.order(order(bridge, 6))  # but what comes next is newer
    assert not bridge.reaches("2", 80)


def test_what_somebody_changed_is_seen_and_mended(filters: PortFilters, bridge: Bridge) -> None:
    filters.order(order(bridge, 1))
    assert filters.check()
    filters.remove()
    assert not filters.check()
    assert filters.check()
    assert not bridge.reaches("2", 80)


def test_hosts_on_one_machine_have_names_of_their_own(tmp_path: Path) -> None:
    names = {PortFilters(HostFiles(tmp_path / f"host-{number}")).taps for number in range(8)}
    assert len(names) == 8
