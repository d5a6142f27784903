"""What may pass a host's guest interfaces: security groups and ports, spelt out for the host's agent. Pure.

Neutron's rules (https://docs.openstack.org/api-ref/network/v2/#security-groups): a packet passes when a rule of any of
the port's groups lets it; answers to what was let through pass; all else is dropped, and so is what a guest sends in
another's name. A remote group stands for the addresses of all ports that have it, on every host.

An order for a host holds all of it at once, with the position of the log that it was made from, so a newer one takes
the place of an older one whole, and repeating one changes nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

import msgspec

from domain.resources import Port, SecurityGroup

KIND: Literal["filter_ports"] = "filter_ports"
DEFAULT_GROUP = "default"
PROTOCOL_NUMBERS = {
    "hopopt": 0, "ip": 0, "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33,
    "ipv6-encap": 41, "ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58,
    "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132,
    "udplite": 136,
}  # fmt: skip
ICMP, ICMPV6 = 1, 58


class FilterRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that may pass. `protocol` null is any; `low` and `high` are ports, or type and code of ICMP.

    The other end is anybody, the addresses of `prefix`, or the members of `group`.
    """

    direction: Literal["ingress", "egress"]
    version: Literal[4, 6]
    protocol: int | None = None
    low: int | None = None
    high: int | None = None
    prefix: str | None = None
    group: str | None = None


class GroupFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group that ports of the host have, or that a rule names: then `members` (addresses, prefixes) count."""

    id: str
    rules: tuple[FilterRule, ...] = ()
    members: tuple[str, ...] = ()


class AddressPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source that a port may use: an address or prefix, with this MAC."""

    address: str
    mac: str


class PortFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """`enforced` is false for a port without port security: everything passes."""

    port_id: str
    mac: str
    sources: tuple[AddressPair, ...] = ()
    groups: tuple[str, ...] = ()
    enforced: bool = True


class HostFilters(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag=KIND):
    """The order. `position` 0 is what a host starts from: no port may send or receive anything."""

    host: str
    position: int
    ports: tuple[PortFilter, ...] = ()
    groups: tuple[GroupFilter, ...] = ()


def default_group_id(project_id: str) -> str:
    """The id of the group `default` that every project has."""
    return str(uuid5(NAMESPACE_URL, f"chronova:default-security-group:{project_id}"))


class Groups:
    """The security groups there are, found by id, or by name within a project as older ports have them."""

    def __init__(self, groups: Iterable[SecurityGroup]) -> None:
        self._by_id = {group.id: group for group in groups}
        self._by_name = {(group.project_id, group.name): group.id for group in self._by_id.values()}

    def of(self, port: Port) -> tuple[str, ...]:
        """The ids of a port's groups. One that is not there lets nothing pass."""
        found = (one if one in self._by_id else self._named(port.project_id, one) for one in port.security_groups)
        return tuple(dict.fromkeys(found))

    def _named(self, project_id: str | None, name: str) -> str:
        if name == DEFAULT_GROUP and project_id is not None:
            return default_group_id(project_id)
        return self._by_name.get((project_id, name), name)

    def rules(self, id: str) -> tuple[FilterRule, ...]:
        group = self._by_id.get(id)
        return tuple(_rule(rule) for rule in group.rules) if group is not None else ()


def filters_of(
    hosts: Iterable[str], position: int, ports: Iterable[Port], groups: Groups, where: Mapping[str, str | None]
) -> list[HostFilters]:
    """The order for each host. `where` tells the host of a server: a port is filtered there, and where it is bound."""
    on: dict[str, list[PortFilter]] = {host: [] for host in hosts}
    members: dict[str, list[str]] = {}
    for port in sorted(ports, key=lambda one: one.id):
        filtered = _port(port, groups)
        for group in filtered.groups:
            members.setdefault(group, []).extend(source.address for source in filtered.sources)
        for host in {port.binding_host, where.get(port.device_id)}:
            if host in on:
                on[host].append(filtered)
    rules = {id: groups.rules(id) for filters in on.values() for port in filters for id in port.groups}
    return [HostFilters(host, position, tuple(here), _groups(here, rules, members)) for host, here in on.items()]


def _groups(
    ports: list[PortFilter], rules: Mapping[str, tuple[FilterRule, ...]], members: Mapping[str, list[str]]
) -> tuple[GroupFilter, ...]:
    used = {id for port in ports for id in port.groups}
    named = {rule.group for id in used for rule in rules[id] if rule.group is not None}
    return tuple(
        GroupFilter(
            id,
            rules[id] if id in used else (),
            tuple(sorted(set(members.get(id, ())))) if id in named else (),
        )
        for id in sorted(used | named)
    )


def _port(port: Port, groups: Groups) -> PortFilter:
    sources = [AddressPair(ip.address, port.mac) for ip in port.fixed_ips]
    sources += [
        AddressPair(pair["ip_address"], pair.get("mac_address") or port.mac) for pair in port.allowed_address_pairs
    ]
    return PortFilter(
        port_id=port.id,
        mac=port.mac,
        sources=tuple(dict.fromkeys(sources)),
        groups=groups.of(port),
        enforced=port.port_security_enabled,
    )


def _rule(rule: Mapping[str, object]) -> FilterRule:
    version: Literal[4, 6] = 6 if rule["ethertype"] == "IPv6" else 4
    prefix = rule.get("remote_ip_prefix")
    if prefix is not None and ipaddress.ip_network(str(prefix)).prefixlen == 0:
        prefix = None
    group = rule.get("remote_group_id")
    low, high = rule.get("port_range_min"), rule.get("port_range_max")
    return FilterRule(
        direction="egress" if rule["direction"] == "egress" else "ingress",
        version=version,
        protocol=_protocol(rule.get("protocol"), version),
        low=low if isinstance(low, int) else None,
        high=high if isinstance(high, int) else None,
        prefix=None if prefix is None else str(prefix),
        group=None if group is None else str(group),
    )


def _protocol(given: object, version: int) -> int | None:
    """The number that stands in the packet; "ip" and 0 stand for any, and icmp means IPv6's in a rule for IPv6."""
    if given is None:
        return None
    number = PROTOCOL_NUMBERS.get(str(given))
    if number is None:
        number = int(str(given))
    if number == ICMP and version == 6:
        return ICMPV6
    return number or None
