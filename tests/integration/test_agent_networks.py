"""Bridges on this machine: whose they are, and which of them go."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from uuid import uuid4

import pytest

from domain.orders import AddressSpec, NicSpec
from hypervisor_agent.libvirt.machine import can_make_bridges
from hypervisor_agent.libvirt.networks import DEVICES, Networks, bridge_name

pytestmark = [
    pytest.mark.skipif(not can_make_bridges(), reason="no right to make bridges"),
    pytest.mark.xdist_group("bridges"),  # the same addresses, on this machine, in all of them
]


@pytest.fixture
def nics() -> Iterator[list[NicSpec]]:
    """NICs of three networks on ranges that nobody else uses (RFC 5737, RFC 3849)."""
    ranges = (("198.51.100.9", 28), ("2001:db8:5::9", 64), ("198.51.100.40", 29))
    found = []
    for number, (address, length) in enumerate(ranges):
        gateway = "198.51.100.1" if number == 0 else "2001:db8:5::1" if number == 1 else None
        version = 6 if ":" in address else 4
        spec = AddressSpec(address, length, gateway, version=version)
        found.append(NicSpec(str(uuid4()), str(uuid4()), f"fa:16:3e:aa:bb:0{number}", (spec,)))
    yield found
    for nic in found:
        subprocess.run(["ip", "link", "del", bridge_name(nic.network_id)], capture_output=True, check=False)


def there(nic: NicSpec) -> bool:
    return (DEVICES / bridge_name(nic.network_id)).exists()


def test_a_starting_agent_removes_what_its_own_system_left(nics: list[NicSpec]) -> None:
    mine, used, others = nics
    owner = str(uuid4())
    Networks(owner).ensure([mine, used])
    Networks("another system").ensure([others])
    tap = "cvt" + uuid4().hex[:8]
    subprocess.run(["ip", "tuntap", "add", tap, "mode", "tap"], check=True)
    try:
        subprocess.run(["ip", "link", "set", tap, "master", bridge_name(used.network_id)], check=True)
        Networks(owner).remove_stale()
        assert [there(nic) for nic in nics] == [False, True, True]
    finally:
        subprocess.run(["ip", "link", "del", tap], check=True)
    Networks(owner).remove_stale()
    assert [there(nic) for nic in nics] == [False, False, True]


def test_a_bridge_has_the_gateways_of_both_versions(nics: list[NicSpec]) -> None:
    four, six, _ = nics
    both = NicSpec(four.port_id, four.network_id, four.mac, (*four.addresses, *six.addresses))
    networks = Networks(str(uuid4()))
    networks.ensure([both])
    command = ["ip", "-o", "addr", "show", "dev", bridge_name(both.network_id)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "198.51.100.1/28" in shown.stdout
    assert "2001:db8:5::1/64" in shown.stdout
    networks.remove_unused([both])
    assert not there(both)
