"""/os-availability-zone: the zones of the hosts. A zone is available when one of its hosts can take servers."""

from __future__ import annotations

from typing import Any

from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from api.compute.hosts_known import last_seen
from api.compute.policy import enforce
from api.compute.times import micros
from domain.resources import Host


async def index(call: Call) -> Reply:
    enforce(call, "os_compute_api:os-availability-zone:list")
    zones = await _zones(call)
    return reply({"availabilityZoneInfo": [_zone(name, hosts) for name, hosts in sorted(zones.items())]})


async def detail(call: Call) -> Reply:
    enforce(call, "os_compute_api:os-availability-zone:detail")
    shown = []
    for name, hosts in sorted((await _zones(call)).items()):
        shown.append(
            _zone(name, hosts) | {"hosts": {host.name: {"nova-compute": _service(call, host)} for host in hosts}}
        )
    return reply({"availabilityZoneInfo": shown})


async def _zones(call: Call) -> dict[str, list[Host]]:
    zones: dict[str, list[Host]] = {}
    for row in await call.services.read.hosts():
        zones.setdefault(row.host.availability_zone, []).append(row.host)
    return zones


def _zone(name: str, hosts: list[Host]) -> dict[str, Any]:
    return {"zoneName": name, "zoneState": {"available": any(not host.disabled for host in hosts)}, "hosts": None}


def _service(call: Call, host: Host) -> dict[str, Any]:
    return {
        "active": not host.disabled,
        "available": host.up and not host.forced_down,
        "updated_at": micros(last_seen(call, host)),
    }


ROUTES = [Route("GET", "/os-availability-zone", index), Route("GET", "/os-availability-zone/detail", detail)]
