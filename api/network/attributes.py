"""The attributes that bodies of the network API may hold.

A word that Neutron does not know is refused with Neutron's sentence: most often it is a misspelt one, and what it was
to do would silently not be done. What Neutron knows, with whatever extension, is let through, also where nothing here
follows it: clients send it along that are made for several clouds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from api.errors import NeutronError

_EVERY = frozenset(
    {"id", "name", "description", "project_id", "tenant_id", "created_at", "updated_at", "revision_number", "tags"}
)
_KNOWN = {
    "network": _EVERY
    | {"admin_state_up", "status", "shared", "subnets", "mtu", "port_security_enabled", "is_default", "router:external"}
    | {"availability_zone_hints", "availability_zones", "dns_domain", "ipv4_address_scope", "ipv6_address_scope"}
    | {"provider:network_type", "provider:physical_network", "provider:segmentation_id", "segments", "l2_adjacency"}
    | {"qos_policy_id", "vlan_transparent", "vlan_qinq", "qinq", "ha", "pvlan"},
    "subnet": _EVERY
    | {"network_id", "ip_version", "cidr", "prefixlen", "subnetpool_id", "use_default_subnetpool", "gateway_ip"}
    | {"allocation_pools", "dns_nameservers", "host_routes", "enable_dhcp", "ipv6_ra_mode", "ipv6_address_mode"}
    | {"segment_id", "service_types", "dns_publish_fixed_ip", "leak_routes", "shared", "router:external"},
    "port": _EVERY
    | {"network_id", "admin_state_up", "status", "mac_address", "fixed_ips", "device_id", "device_owner"}
    | {"binding:host_id", "binding:vnic_type", "binding:vif_type", "binding:vif_details", "binding:profile"}
    | {"security_groups", "port_security_enabled", "allowed_address_pairs", "extra_dhcp_opts"}
    | {"dns_name", "dns_domain", "dns_assignment", "qos_policy_id", "qos_network_policy_id", "resource_request"}
    | {"ip_allocation", "data_plane_status", "propagate_uplink_status", "numa_affinity_policy", "device_profile"}
    | {"hardware_offload_type", "hints", "trusted", "trunk_details", "mac_learning_enabled"}
    | {"pvlan_type", "pvlan_community"},
}


def must_be_known(kind: str, bodies: Iterable[Mapping[str, Any]]) -> None:
    """Raises 400 for a body of a network, a subnet or a port with an attribute that those do not have."""
    if kind not in _KNOWN:
        return
    for body in bodies:
        strange = sorted(body.keys() - _KNOWN[kind])
        if strange:
            named = ", ".join(one[:64] for one in strange[:8])
            raise NeutronError("HTTPBadRequest", 400, f"Unrecognized attribute(s) '{named}'")
