"""What a port may hold beside its addresses: security and the sources that it may use. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from domain.errors import Conflict, Invalid

MOST_PAIRS = 10
MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


def address_pairs(given: Any, mac: str) -> tuple[dict[str, str], ...]:
    """The allowed address pairs of a body, as they are kept: an address or prefix, and the port's MAC by default."""
    if not isinstance(given, list):
        raise Invalid("allowed_address_pairs has to be a list")
    if len(given) > MOST_PAIRS:
        raise Invalid(
            f"The number of allowed address pair exceeds the maximum {MOST_PAIRS}.",
            reason="AllowedAddressPairExhausted",
        )
    pairs: list[dict[str, str]] = []
    for one in given:
        if not isinstance(one, dict) or "ip_address" not in one or not set(one) <= {"ip_address", "mac_address"}:
            raise Invalid("AllowedAddressPair must contain ip_address", reason="AllowedAddressPairsMissingIP")
        owner = str(one.get("mac_address") or mac).lower()
        if not MAC.fullmatch(owner):
            raise Invalid(f"'{owner}' is not a valid MAC address")
        pair = {"ip_address": _network(one["ip_address"]), "mac_address": owner}
        if pair in pairs:
            raise Invalid(
                f"Request contains duplicate address pair: mac_address {owner} ip_address {one['ip_address']}.",
                reason="DuplicateAddressPairInRequest",
            )
        pairs.append(pair)
    return tuple(pairs)


def _network(given: Any) -> str:
    """An address alone is kept as such, a prefix with its length."""
    try:
        network = ipaddress.ip_network(given, strict=False)
    except ValueError as error:
        raise Invalid(f"'{given}' is not a valid IP address or CIDR") from error
    return str(network) if "/" in str(given) else str(network.network_address)


def must_fit_security(*, enabled: bool, groups: Sequence[str], pairs: Sequence[dict[str, str]]) -> None:
    """A port without port security has neither groups nor pairs: nothing would look at them."""
    if enabled:
        return
    if groups:
        raise Conflict(
            "Port has security group associated. Cannot disable port security or ip address until security group is "
            "removed",
            hint="openstack port set --no-security-group --disable-port-security PORT",
            reason="PortSecurityPortHasSecurityGroup",
        )
    if pairs:
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            hint="openstack port set --no-allowed-address --disable-port-security PORT",
            reason="AddressPairAndPortSecurityRequired",
        )
