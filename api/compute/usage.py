"""/os-simple-tenant-usage: how long servers of what size ran, summed from their launch and end times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from api.compute.lookups import integer
from api.compute.policy import enforce
from api.compute.schemas import usage as schemas
from api.compute.times import micros
from api.http import moment
from domain.errors import Invalid
from domain.server import Server
from domain.states import status
from projections.query import MarkerNotFound, ServerQuery

DEFAULT_DAYS = 28


async def index(call: Call) -> Reply:
    schemas.LIST.check(call.version, call.query)
    enforce(call, "os_compute_api:os-simple-tenant-usage:list")
    start, stop, now = _period(call)
    servers, more = await _servers(call, None, "os-simple-tenant-usage")
    detailed = call.argument("detailed") == "1"
    by_project: dict[str, list[dict[str, Any]]] = {}
    for server in servers:
        usage = _usage(server, start, stop, now)
        if usage is not None:
            by_project.setdefault(server.project_id, []).append(usage)
    shown = [_total(project, usages, start, stop, detailed) for project, usages in sorted(by_project.items())]
    return reply({"tenant_usages": shown} | ({"tenant_usages_links": more} if more else {}))


async def show(call: Call) -> Reply:
    project_id = call.params[0]
    schemas.SHOW.check(call.version, call.query)
    enforce(call, "os_compute_api:os-simple-tenant-usage:show", project_id)
    start, stop, now = _period(call)
    servers, more = await _servers(call, project_id, f"os-simple-tenant-usage/{project_id}")
    usages = [usage for server in servers if (usage := _usage(server, start, stop, now)) is not None]
    body: dict[str, Any] = {"tenant_usage": _total(project_id, usages, start, stop, True) if usages else {}}
    return reply(body | ({"tenant_usage_links": more} if more else {}))


def _period(call: Call) -> tuple[datetime, datetime, datetime]:
    now = datetime.now(UTC)
    stop = _time(call.argument("end"), now)
    start = _time(call.argument("start"), now - timedelta(days=DEFAULT_DAYS))
    if start >= stop:
        raise Invalid("Invalid start time. The start time cannot occur after the end time.")
    return start, stop, now


def _time(text: str | None, default: datetime) -> datetime:
    if text is None:
        return default
    try:
        return moment(text.strip('"'))
    except ValueError as error:
        raise Invalid(f"Datetime is in invalid format: {text}") from error


async def _servers(call: Call, project_id: str | None, path: str) -> tuple[list[Server], list[dict[str, str]]]:
    """Every server before 2.40; a page of them, and the link to the next, from then on."""
    read, most = call.services.read, call.services.settings.page_limit
    order = (("created_at", "asc"),)
    if call.version < 40:
        servers: list[Server] = []
        marker: str | None = None
        while True:
            page = await read.servers(
                ServerQuery(project_id=project_id, deleted=None, sort=order, limit=most, marker=marker)
            )
            servers += page
            if len(page) < most:
                return servers, []
            marker = page[-1].id
    limit = min(integer(call, "limit") or most, most)
    marker = call.argument("marker")
    try:
        page = await read.servers(
            ServerQuery(project_id=project_id, deleted=None, sort=order, limit=limit, marker=marker)
        )
    except MarkerNotFound as error:
        raise Invalid(f"marker [{marker}] not found") from error
    if len(page) < limit:
        return page, []
    pairs = [(name, value) for name, values in call.query.items() if name != "marker" for value in values]
    href = f"{call.root}/v2.1{call.project_path}/{path}?{urlencode([*pairs, ('marker', page[-1].id)])}"
    return page, [{"rel": "next", "href": href}]


def _usage(server: Server, start: datetime, stop: datetime, now: datetime) -> dict[str, Any] | None:
    """What one server used in the period; None if it did not run then."""
    flavor = server.flavor
    if server.launched_at is None or flavor is None or server.launched_at >= stop:
        return None
    end = server.terminated_at
    if end is not None and end <= start:
        return None
    hours = (min(end or now, stop, now) - max(server.launched_at, start)).total_seconds() / 3600
    return {
        "instance_id": server.id,
        "name": server.name,
        "hours": max(hours, 0.0),
        "tenant_id": server.project_id,
        "flavor": flavor.name,
        "vcpus": flavor.vcpus,
        "memory_mb": flavor.ram,
        "local_gb": flavor.disk + flavor.ephemeral,
        "started_at": micros(server.launched_at),
        "ended_at": micros(end),
        "state": "terminated" if end else status(server.vm_state, server.task_state).lower(),
        "uptime": int(((end or now) - server.launched_at).total_seconds()),
    }


def _total(
    project_id: str, usages: list[dict[str, Any]], start: datetime, stop: datetime, detailed: bool
) -> dict[str, Any]:
    def times(field: str) -> float:
        return float(sum(one[field] * one["hours"] for one in usages))

    body: dict[str, Any] = {
        "tenant_id": project_id,
        "total_hours": sum(one["hours"] for one in usages),
        "total_vcpus_usage": times("vcpus"),
        "total_memory_mb_usage": times("memory_mb"),
        "total_local_gb_usage": times("local_gb"),
        "start": micros(start),
        "stop": micros(stop),
    }
    return body | ({"server_usages": usages} if detailed else {})


ROUTES = [
    Route("GET", "/os-simple-tenant-usage", index),
    Route("GET", "/os-simple-tenant-usage/{}", show),
]
