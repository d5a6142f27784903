"""/os-hosts, gone from 2.43 on."""

from __future__ import annotations

from typing import Any

from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from api.compute.hosts_known import all_hosts, by_name
from api.compute.policy import enforce
from api.compute.schemas import hosts as schemas
from domain.errors import NotImplementedHere
from projections.query import ServerQuery
from projections.rows import HostRow

_RULE = "os_compute_api:os-hosts:"
LAST = 42


async def index(call: Call) -> Reply:
    enforce(call, _RULE + "list")
    zone = call.argument("zone")
    rows = [row.host for row in await all_hosts(call) if zone in (None, row.host.availability_zone)]
    shown = [{"host_name": host.name, "service": "compute", "zone": host.availability_zone} for host in rows]
    return reply({"hosts": shown})


async def _find(call: Call) -> HostRow:
    return await by_name(call, call.params[0], f"Compute host {call.params[0]} could not be found.")


async def show(call: Call) -> Reply:
    enforce(call, _RULE + "show")
    row = await _find(call)
    host = row.host
    shown = [
        _figures(host.name, "(total)", host.vcpus, host.memory_mb, host.disk_gb),
        _figures(host.name, "(used_now)", row.vcpus_used, row.memory_mb_used, row.disk_gb_used),
        _figures(host.name, "(used_max)", row.vcpus_used, row.memory_mb_used, row.disk_gb_used),
    ]
    projects: dict[str, list[int]] = {}
    for server in await call.services.read.servers(ServerQuery(host=host.name)):
        if server.flavor is not None:
            used = projects.setdefault(server.project_id, [0, 0, 0])
            for at, amount in enumerate((server.flavor.vcpus, server.flavor.ram, server.flavor.disk)):
                used[at] += amount
    shown += [_figures(host.name, project, *used) for project, used in sorted(projects.items())]
    return reply({"host": [{"resource": one} for one in shown]})


def _figures(host: str, project: str, cpu: int, memory_mb: int, disk_gb: int) -> dict[str, Any]:
    return {"host": host, "project": project, "cpu": cpu, "memory_mb": memory_mb, "disk_gb": disk_gb}


async def update(call: Call) -> Reply:
    body = await call.object()
    schemas.HOST.check(call.version, body)
    enforce(call, _RULE + "update")
    row = await _find(call)
    if "maintenance_mode" in body:
        raise NotImplementedHere("Virt driver does not implement host maintenance mode.")
    enabled = body["status"].lower() == "enable"
    changes = {"disabled": not enabled, "disabled_reason": None}
    await call.services.commands.update("host", row.host.id, changes, call.context, verb="administer")
    return reply({"host": row.host.name, "status": "enabled" if enabled else "disabled"})


async def power(call: Call) -> Reply:
    """Agents switch no hosts on or off."""
    enforce(call, _RULE + "reboot")
    await _find(call)
    raise NotImplementedHere("Virt driver does not implement host power management.")


ROUTES = [
    Route("GET", "/os-hosts", index, until=LAST),
    Route("GET", "/os-hosts/{}", show, until=LAST),
    Route("PUT", "/os-hosts/{}", update, until=LAST),
    Route("GET", "/os-hosts/{}/startup", power, until=LAST),
    Route("GET", "/os-hosts/{}/shutdown", power, until=LAST),
    Route("GET", "/os-hosts/{}/reboot", power, until=LAST),
]
