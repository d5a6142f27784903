"""Port filters: what ports and security groups mean for each host, and the nftables text that says so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.filters import (
    KIND,
    AddressPair,
    FilterRule,
    GroupFilter,
    Groups,
    HostFilters,
    PortFilter,
    default_group_id,
    filters_of,
)
from domain.resources import Port, PortAddress, SecurityGroup
from domain.security_groups import default_group
from hypervisor_agent.libvirt.nft_rules import link_local, ruleset, tap_name

MAC = "fa:16:3e:00:00:0{}"
PROJECT = "project-1"


def port(number: int, *groups: str, host: str = "host-1", **fields: Any) -> Port:
    return Port(
        id=f"{number}0000000-0000-4000-8000-000000000000",
        network_id="net",
        project_id=PROJECT,
        mac=MAC.format(number),
        fixed_ips=(PortAddress(f"10.0.0.{number}", "sub"),),
        binding_host=host,
        security_groups=groups,
        **fields,
    )


def group(id: str, *rules: dict[str, Any], name: str = "") -> SecurityGroup:
    return SecurityGroup(id=id, name=name or id, project_id=PROJECT, rules=rules)


def rule(direction: str = "ingress", ethertype: str = "IPv4", **fields: Any) -> dict[str, Any]:
    return {"id": "r", "direction": direction, "ethertype": ethertype, **fields}


def made(*ports: Port, groups: tuple[SecurityGroup, ...] = (), **where: str) -> dict[str, HostFilters]:
    return {one.host: one for one in filters_of(["host-1", "host-2"], 7, ports, Groups(groups), where)}


def test_a_port_is_filtered_where_it_is_bound_and_where_its_server_is() -> None:
    moving = port(1, host="host-1", device_id="moving")
    found = made(moving, port(2, host="elsewhere"), moving="host-2")
    assert [[one.port_id for one in found[host].ports] for host in ("host-1", "host-2")] == [[moving.id], [moving.id]]
    assert {one.position for one in found.values()} == {7}


def test_a_host_is_told_only_the_groups_that_matter_there() -> None:
    web, db, other = group("web"), group("db", rule(remote_group_id="web", protocol="tcp")), group("other", rule())
    found = made(port(1, "web", host="host-2"), port(2, "db"), port(3, "other", host="host-3"), groups=(web, db, other))
    assert {one.id: (len(one.rules), one.members) for one in found["host-1"].groups} == {
        "db": (1, ()),
        "web": (0, ("10.0.0.1",)),
    }
    assert [one.id for one in found["host-2"].groups] == ["web"]


def test_allowed_pairs_are_sources_and_members() -> None:
    pair = {"ip_address": "10.5.0.0/24", "mac_address": MAC.format(9)}
    lone = group("self", rule(remote_group_id="self"))
    found = made(port(1, "self", allowed_address_pairs=(pair,)), groups=(lone,))["host-1"]
    assert found.ports[0].sources == (AddressPair("10.0.0.1", MAC.format(1)), AddressPair("10.5.0.0/24", MAC.format(9)))
    assert found.groups[0].members == ("10.0.0.1", "10.5.0.0/24")


def test_older_ports_have_names_of_groups() -> None:
    fields = default_group(PROJECT) | {"id": default_group_id(PROJECT)}
    default = msgspec.convert(fields, SecurityGroup)
    found = Groups([default, group("id-of-web", name="web")])
    assert found.of(port(1, "default", "web", "id-of-web", "nobody")) == (default.id, "id-of-web", "nobody")
    assert Groups([]).of(port(1, "default")) == (default.id,)
    assert found.rules("nobody") == ()
    assert {(one.direction, one.version, one.group) for one in found.rules(default.id)} == {
        ("egress", 4, None),
        ("egress", 6, None),
        ("ingress", 4, default.id),
        ("ingress", 6, default.id),
    }


@pytest.mark.parametrize(
    ("ethertype", "protocol", "number"),
    [
        ("IPv4", None, None),
        ("IPv4", "ip", None),
        ("IPv4", "0", None),
        ("IPv4", "tcp", 6),
        ("IPv4", "17", 17),
        ("IPv4", "icmp", 1),
        ("IPv6", "icmp", 58),
        ("IPv6", "ipv6-icmp", 58),
    ],
)
def test_protocols_become_numbers(ethertype: str, protocol: str | None, number: int | None) -> None:
    (found,) = Groups([group("g", rule(ethertype=ethertype, protocol=protocol))]).rules("g")
    assert found.protocol == number


def test_a_prefix_of_everything_is_no_prefix() -> None:
    rules = (rule(remote_ip_prefix="0.0.0.0/0"), rule(ethertype="IPv6", remote_ip_prefix="fd00::/8"))
    found = Groups([group("g", *rules)]).rules("g")
    assert [one.prefix for one in found] == [None, "fd00::/8"]


def test_an_order_says_its_kind_and_is_read_back() -> None:
    order = made(port(1, "g"), groups=(group("g", rule(protocol="tcp", port_range_min=1, port_range_max=2)),))["host-1"]
    body = msgspec.json.encode(order)
    assert msgspec.json.decode(body)["kind"] == KIND
    assert msgspec.json.decode(body, type=HostFilters) == order


# the text ------------------------------------------------------------------------------------------------------


def chain(text: str, name: str) -> list[str]:
    lines = text.splitlines()
    start = lines.index(f"chain {name} {{")
    return lines[start + 1 : lines.index("}", start)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FilterRule("ingress", 4), "ether type ip accept"),
        (FilterRule("egress", 6), "ether type ip6 accept"),
        (FilterRule("ingress", 4, 6, 22, 22), "ether type ip meta l4proto 6 th dport 22 accept"),
        (
            FilterRule("ingress", 4, 17, 1, 9, prefix="10.0.0.0/8"),
            "ether type ip ip saddr 10.0.0.0/8 meta l4proto 17 th dport 1-9 accept",
        ),
        (FilterRule("egress", 4, group="a-b"), "ether type ip ip daddr @members4_ab accept"),
        (FilterRule("ingress", 4, 1, 8, 0), "ether type ip meta l4proto 1 icmp type 8 icmp code 0 accept"),
        (FilterRule("ingress", 6, 58, 128), "ether type ip6 meta l4proto 58 icmpv6 type 128 accept"),
        (FilterRule("ingress", 4, 47), "ether type ip meta l4proto 47 accept"),
    ],
)
def test_a_rule_in_nftables_words(given: FilterRule, said: str) -> None:
    order = HostFilters(
        "h", 1, groups=(msgspec.convert({"id": "g", "rules": [msgspec.to_builtins(given)]}, GroupFilter),)
    )
    text = ruleset("t", "cv-", order)
    assert chain(text, "to_g" if given.direction == "ingress" else "from_g") == [said]
    assert chain(text, "from_g" if given.direction == "ingress" else "to_g") == []


@pytest.mark.parametrize("impossible", [FilterRule("ingress", 4, 58), FilterRule("ingress", 6, 1)], ids=["v4", "v6"])
def test_what_cannot_be_is_left_out_so_that_all_else_stands(impossible: FilterRule) -> None:
    order = HostFilters("h", 1, groups=(GroupFilter(id="g", rules=(impossible,)),))
    assert chain(ruleset("t", "cv-", order), "to_g") == []


def test_a_guest_speaks_in_its_own_name_only() -> None:
    own = PortFilter("ab-1", MAC.format(1), (AddressPair("10.0.0.1", MAC.format(1)),), ("g",))
    text = ruleset("t", "cv-", HostFilters("h", 1, (own,)))
    sources = chain(text, "from_ab1")
    assert sources[-1] == "drop"
    assert all(MAC.format(1) in line for line in sources[:-1])
    assert f"ether saddr {MAC.format(1)} ip saddr 10.0.0.1/32 goto send_ab1" in sources
    assert chain(text, "send_ab1")[-2:] == ["jump from_g", "drop"]
    assert chain(text, "to_ab1")[-2:] == ["jump to_g", "drop"]
    assert 'iifname vmap { "cv-ab1" : goto from_ab1 }' in text
    assert text.count('"cv-*" drop') == 2


def test_a_port_without_security_passes_everything() -> None:
    text = ruleset("t", "cv-", HostFilters("h", 1, (PortFilter("ab", MAC.format(1), enforced=False),)))
    assert "chain from_ab { accept; }" in text
    assert "chain to_ab { accept; }" in text


def test_members_that_contain_each_other_are_one_interval() -> None:
    order = HostFilters("h", 1, groups=(GroupFilter(id="g", members=("10.0.0.1", "10.0.0.0/24", "fd00::1")),))
    text = ruleset("t", "cv-", order)
    assert "elements = { 10.0.0.0/24 }" in text
    assert "elements = { fd00::1/128 }" in text


def test_names_hold_nothing_but_letters_and_digits() -> None:
    text = ruleset("t", "cv-", HostFilters("h", 1, groups=(GroupFilter(id='g"; flush ruleset; #'),)))
    assert "flush ruleset" not in text
    with pytest.raises(ValueError, match="MAC"):
        ruleset("t", "cv-", HostFilters("h", 1, (PortFilter("p", "drop"),)))


def test_addresses_and_devices_follow_from_ids() -> None:
    assert link_local("fa:16:3e:f3:ee:99") == "fe80::f816:3eff:fef3:ee99"
    assert tap_name("cv12345-", "a6c987c1-d4ff-56fb-9d74-863dd9d098ce") == "cv12345-a6c987c"
    assert len(tap_name("cv12345-", "a6c987c1-d4ff-56fb-9d74-863dd9d098ce")) <= 15
