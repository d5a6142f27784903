"""What a server has beside its own fields: addresses, diagnostics, topology, security groups, its password."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from api.compute.call import Call, Reply, empty, reply
from api.compute.dispatch import Route
from api.compute.lookups import server_of
from api.compute.servers_view import addresses
from domain.errors import Conflict, NotFound
from domain.resources import SecurityGroup
from domain.server import Server

_HAS_GUEST = frozenset({"running", "paused"})


async def ips(call: Call) -> Reply:
    server = await server_of(call, call.params[0], "os_compute_api:ips:index")
    return reply({"addresses": addresses(server, extended=False)})


async def ips_of_network(call: Call) -> Reply:
    server_id, network = call.params
    server = await server_of(call, server_id, "os_compute_api:ips:show")
    found = addresses(server, extended=False)
    if network not in found:
        raise NotFound("Instance is not a member of specified network")
    return reply({network: found[network]})


async def diagnostics(call: Call) -> Reply:
    server = await server_of(call, call.params[0], "os_compute_api:os-server-diagnostics")
    if server.host is None:
        raise Conflict(f"Instance {server.id} is not ready", hint="It is on no host.")
    if server.power_state not in _HAS_GUEST:
        raise Conflict(
            f"Cannot 'get_diagnostics' instance {server.id} while it is in power state {server.power_state}",
            hint="Start it first.",
        )
    told = await call.services.commands.ask_agent(server.id, "diagnostics", {})
    return reply(_standard(server, told) if call.version >= 48 else _plain(server, told))


_WAYS = ("octets", "packets", "errors", "drop", "rate")
_NIC = ("mac_address", *(f"{way}_{what}" for way in ("rx", "tx") for what in _WAYS))
_DISK = ("read_bytes", "read_requests", "write_bytes", "write_requests", "errors_count")


def _standard(server: Server, told: dict[str, Any]) -> dict[str, Any]:
    """The form of 2.48 and later; what the driver does not tell is null or empty."""
    flavor = server.flavor
    memory = told.get("memory_details") or {}
    return {
        "state": told.get("state", server.power_state),
        "driver": told.get("driver", "libvirt"),
        "hypervisor": told.get("hypervisor"),
        "hypervisor_os": told.get("hypervisor_os"),
        "uptime": told.get("uptime", _uptime(server)),
        "config_drive": server.config_drive,
        "num_cpus": told.get("num_cpus", flavor.vcpus if flavor else 0),
        "num_nics": told.get("num_nics", len(server.interfaces)),
        "num_disks": told.get("num_disks", 1 + len(server.volumes)),
        "cpu_details": told.get("cpu_details", []),
        "nic_details": [{key: one.get(key) for key in _NIC} for one in told.get("nic_details", ())],
        "disk_details": [{key: one.get(key) for key in _DISK} for one in told.get("disk_details", ())],
        "memory_details": {
            "maximum": memory.get("maximum", flavor.ram if flavor else 0),
            "used": memory.get("used", 0),
        },
    }


def _uptime(server: Server) -> int | None:
    if server.launched_at is None:
        return None
    return int((datetime.now(UTC) - server.launched_at).total_seconds())


def _plain(server: Server, told: dict[str, Any]) -> dict[str, Any]:
    """The older form: flat numbers, named after the devices."""
    flat: dict[str, Any] = {"memory": (server.flavor.ram if server.flavor else 0) * 1024}
    for at, cpu in enumerate(told.get("cpu_details", ())):
        flat[f"cpu{at}_time"] = cpu.get("time", 0)
    for disk in told.get("disk_details", ()):
        name = disk.get("device") or "vda"
        flat[f"{name}_read"] = disk.get("read_bytes", 0)
        flat[f"{name}_read_req"] = disk.get("read_requests", 0)
        flat[f"{name}_write"] = disk.get("write_bytes", 0)
        flat[f"{name}_write_req"] = disk.get("write_requests", 0)
        flat[f"{name}_errors"] = disk.get("errors_count", -1)
    for at, nic in enumerate(told.get("nic_details", ())):
        for way in ("rx", "tx"):
            flat[f"vnet{at}_{way}"] = nic.get(f"{way}_octets", 0)
            flat[f"vnet{at}_{way}_packets"] = nic.get(f"{way}_packets", 0)
            flat[f"vnet{at}_{way}_errors"] = nic.get(f"{way}_errors", 0)
            flat[f"vnet{at}_{way}_drop"] = nic.get(f"{way}_drop", 0)
    return flat


async def topology(call: Call) -> Reply:
    """Guests have no NUMA topology here, so there is none to show."""
    await server_of(call, call.params[0], "compute:server:topology:index")
    return reply({"nodes": [], "pagesize_kb": None})


async def security_groups(call: Call) -> Reply:
    server = await server_of(call, call.params[0], "os_compute_api:os-security-groups:list")
    if not server.interfaces:
        return reply({"security_groups": []})
    found = await call.services.read.resources("security_group", project_id=server.project_id)
    groups = {one.name: one for one in found if isinstance(one, SecurityGroup)}
    shown = [_group(groups[name]) for name in server.security_groups if name in groups]
    return reply({"security_groups": shown})


def _group(group: SecurityGroup) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "tenant_id": group.project_id,
        "rules": [_rule(group, rule) for rule in group.rules if rule.get("direction", "ingress") == "ingress"],
    }


def _rule(group: SecurityGroup, rule: dict[str, Any]) -> dict[str, Any]:
    remote = rule.get("remote_group_id")
    prefix = rule.get("remote_ip_prefix") or "0.0.0.0/0"
    return {
        "id": rule.get("id"),
        "parent_group_id": group.id,
        "ip_protocol": rule.get("protocol"),
        "from_port": rule.get("port_range_min"),
        "to_port": rule.get("port_range_max"),
        "group": {"name": remote, "tenant_id": group.project_id} if remote else {},
        "ip_range": {} if remote else {"cidr": prefix},
    }


async def password(call: Call) -> Reply:
    """The password that a guest has posted, encrypted: guests have no way to post one here."""
    await server_of(call, call.params[0], "os_compute_api:os-server-password:show")
    return reply({"password": ""})


async def clear_password(call: Call) -> Reply:
    await server_of(call, call.params[0], "os_compute_api:os-server-password:clear")
    return empty(204)


ROUTES = [
    Route("GET", "/servers/{}/ips", ips),
    Route("GET", "/servers/{}/ips/{}", ips_of_network),
    Route("GET", "/servers/{}/diagnostics", diagnostics),
    Route("GET", "/servers/{}/topology", topology, since=78),
    Route("GET", "/servers/{}/os-security-groups", security_groups),
    Route("GET", "/servers/{}/os-server-password", password),
    Route("DELETE", "/servers/{}/os-server-password", clear_password),
]
