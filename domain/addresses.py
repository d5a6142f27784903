"""Which addresses a port gets: from which subnets, and which are there to be given. Pure.

As in Neutron: without a word about addresses a port gets one of each IP version. Besides, and whatever is asked for, it
has one of every subnet whose guests make their IPv6 address themselves; that follows from the port's MAC (EUI-64), so
nobody may choose another.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from domain.errors import Invalid
from domain.resources import Subnet

SELF_MADE = ("slaac", "dhcpv6-stateless")
MODES = ("dhcpv6-stateful", "dhcpv6-stateless", "slaac")
MOST_PER_PORT = 5


class Pool:
    """The addresses that a subnet hands out by itself, by their index."""

    def __init__(self, subnet: Subnet) -> None:
        network = ipaddress.ip_network(subnet.cidr)
        pools = subnet.allocation_pools or ((str(network[1]), str(network[-2])),)
        self.ranges = [(int(ipaddress.ip_address(low)), int(ipaddress.ip_address(high))) for low, high in pools]
        self.kind = type(network[0])
        self.gateway = subnet.gateway_ip

    @property
    def size(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)

    def at(self, index: int) -> str:
        for low, high in self.ranges:
            if index <= high - low:
                return str(self.kind(low + index))
            index -= high - low + 1
        raise IndexError(index)


def makes_its_own(subnet: Subnet) -> bool:
    """Whether guests on this subnet make their address from their MAC."""
    return subnet.ipv6_address_mode in SELF_MADE


def eui64(cidr: str, mac: str) -> str:
    """The address that a guest with this MAC makes itself in a /64 (RFC 4291, appendix A)."""
    part = bytes.fromhex(mac.replace(":", ""))
    host = bytes([part[0] ^ 2]) + part[1:3] + b"\xff\xfe" + part[3:]
    return str(ipaddress.ip_network(cidr)[int.from_bytes(host)])


def wanted_addresses(
    network_id: str, subnets: Sequence[Subnet], fixed_ips: Sequence[dict[str, str]] | None, mac: str
) -> list[tuple[Subnet, str | None]]:
    """Which subnets give an address, and which address where that is not the subnet's to choose. Raises `Invalid`."""
    own = [(subnet, eui64(subnet.cidr, mac)) for subnet in _in_order(subnets) if makes_its_own(subnet)]
    if fixed_ips is None:
        return [*_one_of_each_version(subnets), *own]
    by_id = {subnet.id: subnet for subnet in subnets}
    wanted: list[tuple[Subnet, str | None]] = []
    for one in fixed_ips:
        address = one.get("ip_address")
        if one.get("subnet_id"):
            found = by_id.get(one["subnet_id"])
            if found is None:
                raise Invalid(f"Subnet {one['subnet_id']} is not on network {network_id}.", reason="subnet")
        else:
            found = next((subnet for subnet in subnets if address and inside(address, subnet)), None)
            if found is None:
                raise Invalid(
                    f"IP address {address} is not a valid IP for any of the subnets on the specified network.",
                    reason="InvalidIpForNetwork",
                )
        if address is not None and not inside(address, found):
            raise Invalid(
                f"IP address {address} is not a valid IP for the specified subnet.", reason="InvalidIpForSubnet"
            )
        wanted.append((found, _chosen(found, address, mac)))
    return wanted + [one for one in own if one not in wanted]


def _in_order(subnets: Sequence[Subnet]) -> list[Subnet]:
    return sorted(subnets, key=lambda one: (str(one.created_at), one.id))


def _one_of_each_version(subnets: Sequence[Subnet]) -> list[tuple[Subnet, str | None]]:
    families: dict[int, Subnet] = {}
    for subnet in _in_order(subnets):
        if not makes_its_own(subnet):
            families.setdefault(subnet.ip_version, subnet)
    return [(subnet, None) for subnet in families.values()]


def _chosen(subnet: Subnet, address: str | None, mac: str) -> str | None:
    if not makes_its_own(subnet):
        return None if address is None else str(ipaddress.ip_address(address))
    own = eui64(subnet.cidr, mac)
    if address is not None and str(ipaddress.ip_address(address)) != own:
        raise Invalid(
            f"IPv6 address {address} can not be directly assigned to a port on subnet {subnet.id} as the subnet is "
            f"configured for automatic addresses",
            hint=f"A port with the MAC {mac} has {own} there.",
            reason="AllocationOnAutoAddressSubnet",
        )
    return own


def inside(address: str, subnet: Subnet) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(subnet.cidr)
    except ValueError:
        return False


def must_be_modes(version: int, cidr: str, ra_mode: str | None, address_mode: str | None, *, dhcp: bool) -> None:
    """Whether a subnet may have these IPv6 modes. Raises `Invalid` as Neutron does."""
    if ra_mode is None and address_mode is None:
        return
    if version == 4:
        raise Invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when ip_version is 4", reason="InvalidInput")
    if not dhcp:
        raise Invalid(
            "ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False", reason="InvalidInput"
        )
    if ra_mode is not None and address_mode is not None and ra_mode != address_mode:
        raise Invalid(
            f"ipv6_ra_mode set to '{ra_mode}' with ipv6_address_mode set to '{address_mode}' is not valid. If both "
            f"attributes are set, they must be the same value",
            reason="InvalidInput",
        )
    if address_mode in SELF_MADE and ipaddress.ip_network(cidr).prefixlen != 64:
        raise Invalid(
            f"Invalid CIDR {cidr} for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the "
            f"prefix to be /64",
            reason="InvalidInput",
        )


def difference(
    held: Iterable[tuple[str, str]], wanted: Sequence[tuple[Subnet, str | None]]
) -> tuple[list[tuple[str, str]], list[tuple[Subnet, str | None]]]:
    """What a port (its subnet ids and addresses) keeps, and what it has to be given, for these wishes.

    A wish for any address of a subnet is met by one that the port has there.
    """
    left = list(held)
    kept: list[tuple[str, str]] = []
    new: list[tuple[Subnet, str | None]] = []
    for subnet, address in sorted(wanted, key=lambda one: one[1] is None):  # named ones first
        found = next((one for one in left if one[0] == subnet.id and address in (None, one[1])), None)
        if found is None:
            new.append((subnet, address))
        else:
            left.remove(found)
            kept.append(found)
    return kept, new
