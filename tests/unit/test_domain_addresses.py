"""Which addresses a port gets, keeps and gives back, and what it may hold beside them."""

from __future__ import annotations

from typing import Any

import pytest

from domain.addresses import Pool, difference, eui64, must_be_modes, wanted_addresses
from domain.errors import Conflict, Invalid
from domain.ports import address_pairs, must_fit_security
from domain.resources import Subnet

MAC = "fa:16:3e:00:00:01"
FOUR = Subnet(id="four", network_id="net", cidr="10.0.0.0/24", gateway_ip="10.0.0.1")
SIX = Subnet(id="six", network_id="net", cidr="fd00::/64", ip_version=6, ipv6_address_mode="dhcpv6-stateful")
OWN = Subnet(id="own", network_id="net", cidr="fd01::/64", ip_version=6, ipv6_address_mode="slaac")
OWN_ADDRESS = "fd01::f816:3eff:fe00:1"


def wanted(*fixed_ips: dict[str, str]) -> list[tuple[str, str | None]]:
    asked = list(fixed_ips) if fixed_ips else None
    return [(subnet.id, address) for subnet, address in wanted_addresses("net", [FOUR, SIX, OWN], asked, MAC)]


def test_a_port_gets_one_of_each_version_and_every_self_made_one() -> None:
    assert wanted() == [("four", None), ("six", None), ("own", OWN_ADDRESS)]
    assert wanted_addresses("net", [FOUR], [], MAC) == []


def test_addresses_are_asked_for_by_subnet_by_address_or_both() -> None:
    own = ("own", OWN_ADDRESS)
    assert wanted({"subnet_id": "six"}, {"ip_address": "10.0.0.9"}) == [("six", None), ("four", "10.0.0.9"), own]
    assert wanted({"subnet_id": "own"}) == wanted({"ip_address": OWN_ADDRESS}) == [own]
    assert wanted({"ip_address": "fd00:0::5", "subnet_id": "six"}) == [("six", "fd00::5"), own]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"subnet_id": "other"}, "subnet"),
        ({"ip_address": "10.1.0.9"}, "InvalidIpForNetwork"),
        ({"ip_address": "x"}, "InvalidIpForNetwork"),
        ({"ip_address": "10.1.0.9", "subnet_id": "four"}, "InvalidIpForSubnet"),
        ({"ip_address": "fd01::5"}, "AllocationOnAutoAddressSubnet"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_addresses_that_no_subnet_can_give(asked: dict[str, str], reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        wanted(asked)
    assert refused.value.reason == reason


def test_what_a_port_keeps_and_what_it_is_given() -> None:
    held = [("four", "10.0.0.8"), ("four", "10.0.0.9"), ("six", "fd00::9")]
    kept, new = difference(held, [(FOUR, None), (FOUR, "10.0.0.8"), (SIX, "fd00::1")])
    assert sorted(kept) == [("four", "10.0.0.8"), ("four", "10.0.0.9")]
    assert new == [(SIX, "fd00::1")]
    assert difference(held, []) == ([], [])


def test_a_pool_counts_over_its_ranges() -> None:
    subnet = Subnet(
        id="s",
        network_id="n",
        cidr="10.0.0.0/24",
        allocation_pools=(("10.0.0.2", "10.0.0.3"), ("10.0.0.9", "10.0.0.9")),
    )
    pool = Pool(subnet)
    assert [pool.at(index) for index in range(pool.size)] == ["10.0.0.2", "10.0.0.3", "10.0.0.9"]
    with pytest.raises(IndexError):
        pool.at(3)


def test_a_mac_makes_its_address() -> None:
    assert eui64("2001:db8::/64", "00:25:96:12:34:56") == "2001:db8::225:96ff:fe12:3456"


@pytest.mark.parametrize(
    ("version", "cidr", "ra", "mode", "dhcp"),
    [
        (4, "10.0.0.0/24", "slaac", None, True),
        (6, "fd00::/64", "slaac", "slaac", False),
        (6, "fd00::/64", "slaac", "dhcpv6-stateful", True),
        (6, "fd00::/48", None, "slaac", True),
    ],
    ids=["v4", "no dhcp", "different", "no /64"],
)
def test_modes_that_do_not_go(version: int, cidr: str, ra: str | None, mode: str | None, dhcp: bool) -> None:
    with pytest.raises(Invalid):
        must_be_modes(version, cidr, ra, mode, dhcp=dhcp)


def test_modes_that_go() -> None:
    must_be_modes(4, "10.0.0.0/24", None, None, dhcp=True)
    must_be_modes(6, "fd00::/64", "slaac", "slaac", dhcp=True)
    must_be_modes(6, "fd00::/48", "dhcpv6-stateful", "dhcpv6-stateful", dhcp=True)


def test_address_pairs_have_the_ports_mac_unless_they_name_one() -> None:
    given: list[dict[str, Any]] = [
        {"ip_address": "10.0.0.9"},
        {"ip_address": "10.2.3.4/16", "mac_address": "FA:16:3E:00:00:02"},
    ]
    assert address_pairs(given, MAC) == (
        {"ip_address": "10.0.0.9", "mac_address": MAC},
        {"ip_address": "10.2.0.0/16", "mac_address": "fa:16:3e:00:00:02"},
    )


@pytest.mark.parametrize(
    "given",
    [
        "10.0.0.1",
        [{"mac_address": MAC}],
        [{"ip_address": "x"}],
        [{"ip_address": "10.0.0.1", "mac_address": "x"}],
        [{"ip_address": "10.0.0.1"}, {"ip_address": "10.0.0.1", "mac_address": MAC}],
        [{"ip_address": f"10.0.0.{number}"} for number in range(11)],
    ],
    ids=["no list", "no address", "address", "mac", "twice", "too many"],
)
def test_address_pairs_that_do_not_go(given: Any) -> None:
    with pytest.raises(Invalid):
        address_pairs(given, MAC)


def test_a_port_without_security_has_no_groups_and_no_pairs() -> None:
    must_fit_security(enabled=True, groups=["g"], pairs=[{"ip_address": "10.0.0.1"}])
    must_fit_security(enabled=False, groups=[], pairs=[])
    with pytest.raises(Conflict, match="security group"):
        must_fit_security(enabled=False, groups=["g"], pairs=[])
    with pytest.raises(Conflict, match="address pairs"):
        must_fit_security(enabled=False, groups=[], pairs=[{"ip_address": "10.0.0.1"}])
