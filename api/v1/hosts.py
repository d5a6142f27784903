"""Hosts: what they offer, what is placed on them, and whether their agent answers.

Everybody may see which hosts there are and its own servers on them; capacity taken by others is for administrators.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, caller, services
from api.v1.scope import listed_project
from domain.filters import KIND as FILTERS
from projections.query import ServerQuery

if TYPE_CHECKING:
    from api.auth import Caller
    from api.services import Services


async def listing(request: Request) -> Response:
    """List hosts"""
    return Json({"hosts": await host_list(services(request), caller(request))})


def _in_order(name: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"([0-9]+)", name)]


async def host_list(at: Services, who: Caller) -> list[dict[str, Any]]:
    """Every host as the caller may see it, in order of name: host-9 before host-10."""
    own = await at.read.servers(ServerQuery(project_id=listed_project(who)))
    names: dict[str, list[dict[str, str]]] = {}
    for server in own:
        if server.host is not None:
            names.setdefault(server.host, []).append({"id": server.id, "name": server.name})
    watch = at.commands.hosts
    shown: list[dict[str, Any]] = []
    for row in sorted(await at.read.hosts(), key=lambda one: _in_order(one.host.name)):
        host = row.host
        heard = watch.heard_once(host.name)
        entry: dict[str, Any] = {
            "name": host.name,
            "up": not host.forced_down and watch.is_up(host.name),
            "heartbeat_seconds_ago": round(watch.silent_for(host.name), 1) if heard else None,
            "disabled": host.disabled,
            "disabled_reason": host.disabled_reason,
            "driver": host.driver,
            "hypervisor_type": host.hypervisor_type,
            "enforces_security_groups": FILTERS in host.capabilities,
            "availability_zone": host.availability_zone,
            "vcpus": host.vcpus,
            "memory_mb": host.memory_mb,
            "disk_gb": host.disk_gb,
            "servers": names.get(host.name, []),
        }
        if who.is_admin:
            entry["used"] = {
                "vcpus": row.vcpus_used,
                "memory_mb": row.memory_mb_used,
                "disk_gb": row.disk_gb_used,
                "servers": row.servers,
            }
        shown.append(entry)
    return shown
