"""What a security group holds when it is made, as Neutron fills it: everything may leave, and in the group `default`
its members may reach each other."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from domain.filters import DEFAULT_GROUP, default_group_id

ETHERTYPES = ("IPv4", "IPv6")


def egress_rules(group_id: str) -> list[dict[str, Any]]:
    """Everything may leave."""
    return [_rule(group_id, "egress", ethertype, None) for ethertype in ETHERTYPES]


def ingress_rules(group_id: str) -> list[dict[str, Any]]:
    """Members of the group may reach each other."""
    return [_rule(group_id, "ingress", ethertype, group_id) for ethertype in ETHERTYPES]


def default_group(project_id: str) -> dict[str, Any]:
    """The fields of the group that every project has."""
    id_ = default_group_id(project_id)
    return {
        "name": DEFAULT_GROUP,
        "project_id": project_id,
        "description": "Default security group",
        "is_default": True,
        "rules": [*egress_rules(id_), *ingress_rules(id_)],
    }


def _rule(group_id: str, direction: str, ethertype: str, remote_group_id: str | None) -> dict[str, Any]:
    return {
        "id": str(uuid5(NAMESPACE_URL, f"chronova:rule:{group_id}:{direction}:{ethertype}")),
        "direction": direction,
        "ethertype": ethertype,
        "protocol": None,
        "port_range_min": None,
        "port_range_max": None,
        "remote_ip_prefix": None,
        "remote_group_id": remote_group_id,
        "description": "",
    }
