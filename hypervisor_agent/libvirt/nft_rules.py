"""A host's port filters as nftables rules. Pure: filters go in, text for `nft -f` comes out.

Packets between guests are bridged, so the filters are in a table of the bridge family: what comes from a guest passes
the prerouting hook, what goes to one the postrouting hook, also to and from the host itself. A guest's tap device leads
to the chains of its port; a tap of this host without a port there passes nothing.

Answers are recognised in a table of the inet family, because few kernels track connections in the bridge family: there
br_netfilter shows it the bridged packets, and it marks those that go in the reply direction of a connection, or belong
to one (ICMP errors). Every packet in a connection's own direction is judged by the rules as they are now, so that
removing a rule also ends what it let through.
"""

from __future__ import annotations

import ipaddress
import re

from domain.filters import ICMP, ICMPV6, FilterRule, GroupFilter, HostFilters, PortFilter

MARK = "0x00200000"
# After br_netfilter, which runs at 0, and after connection tracking at -200.
PRIORITY = 10
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
NEIGHBOURS_IN = "{ mld-listener-query, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }"
NEIGHBOURS_OUT = (
    "{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report }"
)


def tap_name(prefix: str, port_id: str) -> str:
    """The device of a port on its host: at most 15 characters, and known before the guest starts."""
    return prefix + port_id.replace("-", "")[:7]


def ruleset(table: str, prefix: str, filters: HostFilters) -> str:
    """Both tables, replacing those that are there in one transaction."""
    lines = []
    for family in ("inet", "bridge"):
        lines += [f"table {family} {table}", f"delete table {family} {table}"]
    lines += _replies(table)
    taps = {tap_name(prefix, port.port_id): port for port in filters.ports}
    lines.append(f"table bridge {table} {{")
    for group in filters.groups:
        lines += _members(group)
    for group in filters.groups:
        lines += _group(group)
    for port in filters.ports:
        lines += _port(port)
    for hook, device, way in (("prerouting", "iifname", "from"), ("postrouting", "oifname", "to")):
        lines += [f"chain {way}_guests {{", f"type filter hook {hook} priority {PRIORITY}; policy accept;"]
        if taps:
            leads = ", ".join(f'"{tap}" : goto {way}_{_name(port.port_id)}' for tap, port in taps.items())
            lines.append(f"{device} vmap {{ {leads} }}")
        lines += [f'{device} "{prefix}*" drop', "}"]
    return "\n".join([*lines, "}", ""])


def _replies(table: str) -> list[str]:
    lines = [f"table inet {table} {{"]
    for hook in ("prerouting", "output"):
        lines += [
            f"chain {hook}_replies {{",
            f"type filter hook {hook} priority {PRIORITY}; policy accept;",
            f"ct state established ct direction reply meta mark set meta mark or {MARK}",
            f"ct state related meta mark set meta mark or {MARK}",
            "}",
        ]
    return [*lines, "}"]


def _members(group: GroupFilter) -> list[str]:
    lines = []
    for version in (4, 6):
        elements = ", ".join(_collapsed(group.members, version))
        lines += [f"set {_set(group.id, version)} {{", f"type ipv{version}_addr", "flags interval"]
        lines += [f"elements = {{ {elements} }}"] if elements else []
        lines.append("}")
    return lines


def _collapsed(members: tuple[str, ...], version: int) -> list[str]:
    """The members of one family without those that others contain: a set's intervals may not overlap."""
    networks = [ipaddress.ip_network(one) for one in members]
    if version == 4:
        four = (one for one in networks if isinstance(one, ipaddress.IPv4Network))
        return [str(one) for one in ipaddress.collapse_addresses(four)]
    six = (one for one in networks if isinstance(one, ipaddress.IPv6Network))
    return [str(one) for one in ipaddress.collapse_addresses(six)]


def _group(group: GroupFilter) -> list[str]:
    lines = []
    for direction, way in (("egress", "from"), ("ingress", "to")):
        rules = [_rule(rule) for rule in group.rules if rule.direction == direction and _possible(rule)]
        lines += [f"chain {way}_{_name(group.id)} {{", *dict.fromkeys(rules), "}"]
    return lines


def _possible(rule: FilterRule) -> bool:
    """ICMPv6 is not in IPv4, nor ICMP in IPv6; nft refuses rules that say so."""
    return (rule.version, rule.protocol) not in ((4, ICMPV6), (6, ICMP))


def _rule(rule: FilterRule) -> str:
    family = "ip" if rule.version == 4 else "ip6"
    other = "saddr" if rule.direction == "ingress" else "daddr"
    words = [f"ether type {family}"]
    if rule.group is not None:
        words.append(f"{family} {other} @{_set(rule.group, rule.version)}")
    elif rule.prefix is not None:
        words.append(f"{family} {other} {ipaddress.ip_network(rule.prefix)}")
    if rule.protocol is not None:
        words.append(f"meta l4proto {int(rule.protocol)}")
        words += _parts(rule)
    return " ".join([*words, "accept"])


def _parts(rule: FilterRule) -> list[str]:
    if rule.protocol in (ICMP, ICMPV6):
        name = "icmp" if rule.protocol == ICMP else "icmpv6"
        named = (("type", rule.low), ("code", rule.high))
        return [f"{name} {part} {int(value)}" for part, value in named if value is not None]
    if rule.protocol in _WITH_PORTS and rule.low is not None and rule.high is not None:
        return [f"th dport {int(rule.low)}-{int(rule.high)}" if rule.low != rule.high else f"th dport {int(rule.low)}"]
    return []


def _port(port: PortFilter) -> list[str]:
    name = _name(port.port_id)
    if not port.enforced:
        return [f"chain {way}_{name} {{ accept; }}" for way in ("from", "to")]
    return [*_send(name, port), *_sources(name, port), *_receive(name, port)]


def _sources(name: str, port: PortFilter) -> list[str]:
    """What comes out of the guest has to be in its own name, whatever the rules say."""
    mac = _mac(port.mac)
    lines = [
        f"chain from_{name} {{",
        # A guest that has no address yet: DHCP, and looking whether its address is free.
        f"ether saddr {mac} ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
        f"ether saddr {mac} arp saddr ether {mac} arp saddr ip 0.0.0.0 accept",
        f"ether saddr {mac} ip6 saddr :: icmpv6 type {NEIGHBOURS_OUT} accept",
        f"ether saddr {mac} ip6 saddr {link_local(mac)} goto send_{name}",
    ]
    for source in port.sources:
        network, owner = ipaddress.ip_network(source.address), _mac(source.mac)
        if network.version == 4:
            lines.append(f"ether saddr {owner} arp saddr ether {owner} arp saddr ip {network} accept")
            lines.append(f"ether saddr {owner} ip saddr {network} goto send_{name}")
        else:
            lines.append(f"ether saddr {owner} ip6 saddr {network} goto send_{name}")
    return [*lines, "drop", "}"]


def _send(name: str, port: PortFilter) -> list[str]:
    own = [ipaddress.ip_network(source.address) for source in port.sources]
    own += [ipaddress.ip_network(link_local(_mac(one))) for one in {port.mac, *(pair.mac for pair in port.sources)}]
    return [
        f"chain send_{name} {{",
        "udp sport 68 udp dport 67 accept",
        "udp sport 546 udp dport 547 accept",
        "udp sport 67 udp dport 68 drop",
        "udp sport 547 udp dport 546 drop",
        "icmpv6 type { nd-router-advert, nd-redirect } drop",
        *(_advertises(network) for network in own if network.version == 6),
        "icmpv6 type nd-neighbor-advert drop",
        f"icmpv6 type {NEIGHBOURS_OUT} accept",
        f"meta mark & {MARK} == {MARK} accept",
        *(f"jump from_{_name(group)}" for group in port.groups),
        "drop",
        "}",
    ]


def _advertises(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """The address that a neighbour advertisement speaks for is behind the 8 bytes of its header."""
    length = network.prefixlen
    value = int(network.network_address) >> (128 - length)
    return f"icmpv6 type nd-neighbor-advert @th,64,{length} {value:#x} accept" if length else ""


def _receive(name: str, port: PortFilter) -> list[str]:
    return [
        f"chain to_{name} {{",
        "ether type arp accept",
        f"icmpv6 type {NEIGHBOURS_IN} accept",
        "udp sport 67 udp dport 68 accept",
        "udp sport 547 udp dport 546 accept",
        f"meta mark & {MARK} == {MARK} accept",
        *(f"jump to_{_name(group)}" for group in port.groups),
        "drop",
        "}",
    ]


def link_local(mac: str) -> str:
    """The address that a guest makes itself from its MAC (RFC 4291, appendix A)."""
    part = bytes.fromhex(mac.replace(":", ""))
    host = bytes([part[0] ^ 2]) + part[1:3] + b"\xff\xfe" + part[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + host))


def _name(id: str) -> str:
    """An id as part of a chain's name. Nothing but letters and digits gets into the text."""
    return re.sub(r"[^0-9A-Za-z]", "", id)


def _set(group_id: str, version: int) -> str:
    return f"members{version}_{_name(group_id)}"


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text.lower()):
        raise ValueError(f"not a MAC address: {text!r}")
    return text.lower()
