"""Reading the addresses of a subnet: range, gateway, and the pools that ports are given addresses from."""

from __future__ import annotations

import ipaddress
from itertools import pairwise
from typing import Any

from api.errors import NeutronError
from domain.errors import Invalid

AnyNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_POOLS = 10


def network_of(cidr: Any, version: int | None) -> AnyNetwork:
    """The network of a CIDR. Raises 400 for what is none, for host bits, and for another IP version."""
    try:
        found = ipaddress.ip_network(cidr, strict=False)
    except ValueError as error:
        raise Invalid(f"Invalid input for cidr. Reason: '{cidr}' is not a valid IP subnet.") from error
    if version is not None and found.version != version:
        raise Invalid(f"cidr {cidr} is not of ip_version {version}")
    return found


def gateway_of(body: dict[str, Any], cidr: AnyNetwork) -> str | None:
    """The gateway asked for; null for none; by default the first address."""
    if "gateway_ip" not in body:
        return str(cidr[1]) if cidr.num_addresses > 2 else None
    given = body["gateway_ip"]
    if given is None or given == "":
        return None
    try:
        found = ipaddress.ip_address(given)
    except ValueError as error:
        raise Invalid(f"gateway_ip: {given!r} is not an IP address") from error
    if found not in cidr:
        raise NeutronError("InvalidInput", 400, f"Gateway {given} is not in the subnet {cidr}")
    return str(found)


def default_pools(cidr: AnyNetwork, gateway: str | None) -> list[tuple[str, str]]:
    """Every address but the network's own, its broadcast address and the gateway."""
    first, last = int(cidr[0]) + 1, int(cidr[-1]) - (1 if cidr.version == 4 else 0)
    if cidr.num_addresses <= 2:
        first, last = int(cidr[0]), int(cidr[-1])
    kind = type(cidr[0])
    ranges = [(first, last)]
    if gateway is not None:
        at = int(ipaddress.ip_address(gateway))
        ranges = [(low, high) for low, high in ((first, min(at - 1, last)), (max(at + 1, first), last)) if low <= high]
    return [(str(kind(low)), str(kind(high))) for low, high in ranges]


def pools_of(body: dict[str, Any], cidr: AnyNetwork, gateway: str | None) -> list[tuple[str, str]]:
    """The pools asked for, in order, without overlaps, inside the subnet, without the gateway."""
    given = body["allocation_pools"]
    if not isinstance(given, list) or not 0 < len(given) <= MOST_POOLS:
        raise Invalid(f"allocation_pools has to be a list of 1 to {MOST_POOLS} pools")
    ranges = sorted(_range(one, cidr) for one in given)
    for (_, high), (low, _) in pairwise(ranges):
        if low <= high:
            raise NeutronError("OverlappingAllocationPools", 409, "Found overlapping allocation pools")
    if gateway is not None and any(low <= int(ipaddress.ip_address(gateway)) <= high for low, high in ranges):
        raise NeutronError(
            "GatewayConflictWithAllocationPools", 409, f"Gateway ip {gateway} conflicts with allocation pool"
        )
    kind = type(cidr[0])
    return [(str(kind(low)), str(kind(high))) for low, high in ranges]


def _range(pool: Any, cidr: AnyNetwork) -> tuple[int, int]:
    try:
        low, high = ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])
    except (ValueError, TypeError, KeyError) as error:
        raise Invalid("An allocation pool has a start and an end address") from error
    if low not in cidr or high not in cidr or int(low) > int(high):
        raise NeutronError("OutOfBoundsAllocationPool", 400, f"The allocation pool {low}-{high} is not inside {cidr}")
    return int(low), int(high)
