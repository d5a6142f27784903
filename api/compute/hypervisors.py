"""/os-hypervisors: what each host offers and what is placed on it. Ids are uuids from 2.53 on, small numbers before."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec

from api.compute.call import Call, Reply, flag, reply
from api.compute.dispatch import Route
from api.compute.hosts_known import all_hosts, answers, service_id
from api.compute.lookups import integer
from api.compute.policy import enforce
from api.compute.schemas import hosts as schemas
from domain.errors import Invalid, NotFound
from projections.query import ServerQuery
from projections.rows import HostRow

_RULE = "os_compute_api:os-hypervisors:"


def _id(call: Call, row: HostRow) -> Any:
    return row.host.id if call.version >= 53 else row.host.number


def _brief(call: Call, row: HostRow) -> dict[str, Any]:
    return {
        "id": _id(call, row),
        "hypervisor_hostname": row.host.name,
        "state": "up" if answers(call, row.host) else "down",
        "status": "disabled" if row.host.disabled else "enabled",
    }


def _detail(call: Call, row: HostRow) -> dict[str, Any]:
    host = row.host
    body = _brief(call, row) | {
        "host_ip": host.host_ip,
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": host.hypervisor_version,
        "service": {
            "id": service_id(host) if call.version >= 53 else host.number,
            "host": host.name,
            "disabled_reason": host.disabled_reason,
        },
    }
    if call.version >= 88:
        return body | {"uptime": None}
    return (
        body
        | _figures(row)
        | {
            "cpu_info": host.cpu_info if call.version >= 28 else msgspec.json.encode(host.cpu_info).decode(),
            "disk_available_least": host.disk_gb - row.disk_gb_used,
        }
    )


def _figures(row: HostRow) -> dict[str, int]:
    host = row.host
    return {
        "vcpus": host.vcpus,
        "vcpus_used": row.vcpus_used,
        "memory_mb": host.memory_mb,
        "memory_mb_used": row.memory_mb_used,
        "free_ram_mb": host.memory_mb - row.memory_mb_used,
        "local_gb": host.disk_gb,
        "local_gb_used": row.disk_gb_used,
        "free_disk_gb": host.disk_gb - row.disk_gb_used,
        "current_workload": 0,
        "running_vms": row.servers,
    }


async def index(call: Call) -> Reply:
    enforce(call, _RULE + "list")
    return await _list(call, _brief, "os-hypervisors")


async def detailed(call: Call) -> Reply:
    enforce(call, _RULE + "list-detail")
    return await _list(call, _detail, "os-hypervisors/detail")


async def _list(call: Call, view: Any, path: str) -> Reply:
    schemas.HYPERVISORS.check(call.version, call.query)
    rows = await all_hosts(call)
    pattern = call.argument("hypervisor_hostname_pattern") if call.version >= 53 else None
    if pattern is not None:
        rows = [row for row in rows if pattern in row.host.name]
        if not rows:
            raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    rows, more = _page(call, rows, path) if call.version >= 33 else (rows, {})
    shown = [view(call, row) for row in rows]
    if _wants_servers(call):
        for body, row in zip(shown, rows, strict=True):
            body["servers"] = await _servers(call, row)
    return reply({"hypervisors": shown} | more)


def _wants_servers(call: Call) -> bool:
    return call.version >= 53 and flag(call.argument("with_servers") or "false")


async def _servers(call: Call, row: HostRow) -> list[dict[str, str]]:
    found = await call.services.read.servers(ServerQuery(host=row.host.name))
    return [{"uuid": server.id, "name": server.instance_name} for server in found]


def _page(call: Call, rows: list[HostRow], path: str) -> tuple[list[HostRow], dict[str, Any]]:
    marker = call.argument("marker")
    if marker is not None:
        at = next((index for index, row in enumerate(rows) if str(_id(call, row)) == marker), None)
        if at is None:
            raise Invalid(f"marker [{marker}] not found")
        rows = rows[at + 1 :]
    most = call.services.settings.page_limit
    limit = min(integer(call, "limit") or most, most)
    if len(rows) <= limit:
        return rows, {}
    page = rows[:limit]
    pairs = [(name, value) for name, values in call.query.items() if name != "marker" for value in values]
    query = urlencode([*pairs, ("marker", str(_id(call, page[-1])))])
    href = f"{call.root}/v2.1{call.project_path}/{path}?{query}"
    return page, {"hypervisors_links": [{"rel": "next", "href": href}]}


async def _find(call: Call) -> HostRow:
    wanted = call.params[0]
    for row in await all_hosts(call):
        if str(_id(call, row)) == wanted:
            return row
    raise NotFound(f"Hypervisor with ID '{wanted}' could not be found.")


async def show(call: Call) -> Reply:
    enforce(call, _RULE + "show")
    schemas.HYPERVISOR.check(call.version, call.query)
    row = await _find(call)
    body = _detail(call, row)
    if _wants_servers(call):
        body["servers"] = await _servers(call, row)
    return reply({"hypervisor": body})


async def statistics(call: Call) -> Reply:
    enforce(call, _RULE + "statistics")
    rows = [row for row in await all_hosts(call) if not row.host.disabled]
    figures = [_figures(row) for row in rows]
    names = (
        "vcpus vcpus_used memory_mb memory_mb_used free_ram_mb local_gb local_gb_used free_disk_gb current_workload "
        "running_vms"
    )
    total = {name: sum(one[name] for one in figures) for name in names.split()}
    return reply({"hypervisor_statistics": total | {"count": len(rows), "disk_available_least": total["free_disk_gb"]}})


async def search(call: Call) -> Reply:
    enforce(call, _RULE + "search")
    rows = await _matching(call)
    return reply({"hypervisors": [_brief(call, row) for row in rows]})


async def servers(call: Call) -> Reply:
    enforce(call, _RULE + "servers")
    shown = []
    for row in await _matching(call):
        body = _brief(call, row)
        found = await _servers(call, row)
        shown.append(body | {"servers": found} if found else body)
    return reply({"hypervisors": shown})


async def _matching(call: Call) -> list[HostRow]:
    pattern = call.params[0]
    rows = [row for row in await all_hosts(call) if pattern in row.host.name]
    if not rows:
        raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    return rows


async def uptime(call: Call) -> Reply:
    enforce(call, _RULE + "uptime")
    row = await _find(call)
    if not answers(call, row.host):
        raise Invalid(f"Compute service of {row.host.name} is unavailable at this time.")
    return reply({"hypervisor": _brief(call, row) | {"uptime": ""}})


ROUTES = [
    Route("GET", "/os-hypervisors", index),
    Route("GET", "/os-hypervisors/detail", detailed),
    Route("GET", "/os-hypervisors/statistics", statistics, until=87),
    Route("GET", "/os-hypervisors/{}", show),
    Route("GET", "/os-hypervisors/{}/search", search, until=52),
    Route("GET", "/os-hypervisors/{}/servers", servers, until=52),
    Route("GET", "/os-hypervisors/{}/uptime", uptime, until=87),
]
