"""One rule of a security group: reading it from a body, and how it is shown."""

from __future__ import annotations

import ipaddress
from typing import Any
from uuid import uuid4

from api.errors import NeutronError
from api.http import timestamp
from api.shapes import text, whole
from domain.errors import Invalid
from domain.resources import SecurityGroup
from domain.security_groups import ETHERTYPES

# fmt: off
PROTOCOLS = (
    "ah", "dccp", "egp", "esp", "gre", "hopopt", "icmp", "icmpv6", "igmp", "ip", "ipip", "ipv6-encap",
    "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp", "sctp", "tcp",
    "udp", "udplite", "vrrp",
)
# fmt: on
_WITH_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite", "6", "17", "132", "33", "136")
_ONLY_IPV6 = ("icmpv6", "ipv6-encap", "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "58")
_ICMP = ("icmp", "icmpv6", "ipv6-icmp", "1", "58")


def rule_view(group: SecurityGroup, rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "security_group_id": group.id,
        "project_id": group.project_id or "",
        "tenant_id": group.project_id or "",
        "remote_address_group_id": None,
        "normalized_cidr": rule["remote_ip_prefix"],
        "revision_number": 0,
        "tags": [],
        "updated_at": rule.get("created_at") or timestamp(group.created_at),
        "belongs_to_default_sg": group.is_default,
        **{"created_at": timestamp(group.created_at), **rule},
    }


def rule_of(body: dict[str, Any], *, created_at: str) -> dict[str, Any]:
    """A new rule. Raises 400 with what is wrong."""
    direction = text(body, "direction")
    if direction not in ("ingress", "egress"):
        raise Invalid(f"direction has to be ingress or egress, not {direction!r}")
    ethertype = text(body, "ethertype", "IPv4") or "IPv4"
    ethertype = next((one for one in ETHERTYPES if one.lower() == ethertype.lower()), "")
    if not ethertype:
        raise NeutronError("SecurityGroupRuleInvalidEtherType", 400, "ethertype has to be IPv4 or IPv6")
    protocol = _protocol(body.get("protocol"))
    if ethertype == "IPv4" and protocol in _ONLY_IPV6:
        raise NeutronError(
            "SecurityGroupEthertypeConflictWithProtocol", 400, f"Invalid ethertype {ethertype} for protocol {protocol}."
        )
    low, high = _ports(body, protocol)
    remote_group = text(body, "remote_group_id", None)
    prefix = _prefix(body, ethertype)
    if remote_group and prefix:
        raise NeutronError(
            "SecurityGroupMultipleRemoteEntities", 400, "Only one of remote_ip_prefix and remote_group_id may be given"
        )
    return {
        "id": str(uuid4()),
        "direction": direction,
        "ethertype": ethertype,
        "protocol": protocol,
        "port_range_min": low,
        "port_range_max": high,
        "remote_ip_prefix": prefix,
        "remote_group_id": remote_group,
        "description": text(body, "description", "") or "",
        "created_at": created_at,
    }


def _protocol(given: Any) -> str | None:
    if given in (None, "", "any"):
        return None
    number = whole(str(given))
    if number is not None and number <= 255:
        return str(number)
    if isinstance(given, str) and given.lower() in PROTOCOLS:
        return given.lower()
    raise NeutronError(
        "SecurityGroupRuleInvalidProtocol",
        400,
        f"Security group rule protocol {given} not supported. Only protocol values {list(PROTOCOLS)} and integer "
        f"representations [0 to 255] are supported.",
    )


def _ports(body: dict[str, Any], protocol: str | None) -> tuple[int | None, int | None]:
    low, high = _port(body, "port_range_min"), _port(body, "port_range_max")
    if low is None and high is None:
        return None, None
    if protocol in _ICMP:
        if (low or 0) > 255 or (high or 0) > 255:
            raise NeutronError("SecurityGroupInvalidIcmpValue", 400, "ICMP type and code have to be from 0 to 255")
        if low is None:
            raise NeutronError(
                "SecurityGroupMissingIcmpType",
                400,
                f"ICMP code (port-range-max) {high} is provided but ICMP type is not",
            )
        return low, high
    if protocol not in _WITH_PORTS:
        raise NeutronError(
            "SecurityGroupProtocolRequiredWithPorts", 400, "Must also specify protocol if port range is given."
        )
    if low is None or high is None or low > high:
        raise NeutronError("SecurityGroupInvalidPortRange", 400, "port_range_min must be <= port_range_max")
    return low, high


def _port(body: dict[str, Any], key: str) -> int | None:
    given = body.get(key)
    if given is None:
        return None
    if isinstance(given, str) and (number := whole(given)) is not None:
        given = number
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= 65535:
        raise NeutronError("SecurityGroupInvalidPortValue", 400, f"Invalid value for port {given}")
    return given


def _prefix(body: dict[str, Any], ethertype: str) -> str | None:
    given = text(body, "remote_ip_prefix", None)
    if not given:
        return None
    try:
        found = ipaddress.ip_network(given, strict=False)
    except ValueError as error:
        raise Invalid(f"remote_ip_prefix: '{given}' is not a valid IP subnet.") from error
    if f"IPv{found.version}" != ethertype:
        raise NeutronError(
            "SecurityGroupRuleParameterConflict", 400, f"Conflicting value ethertype {ethertype} for CIDR {given}"
        )
    return str(found)
