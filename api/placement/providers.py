"""Resource providers are the hosts; inventories, usages and allocations are read from what is placed on them.

Placing is decided by the scheduler of chronova, so everything here is for reading: a change is refused with 409 and the
reason. All of it is for admins, as in Placement.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json, services
from api.identity.access import must_be_admin
from api.microversions import Version
from api.placement.documents import CLASSES, VERSIONS
from api.shapes import whole
from domain.errors import Invalid, NotFound, Rejected
from domain.scheduling import CPU_RATIO
from domain.server import Server
from projections.rows import HostRow, PlacementRow

MOST_CANDIDATES = 1000


def _inventory(row: HostRow) -> dict[str, dict[str, Any]]:
    totals = {"VCPU": row.host.vcpus, "MEMORY_MB": row.host.memory_mb, "DISK_GB": row.host.disk_gb}
    return {
        name: {
            "total": total,
            "reserved": 0,
            "min_unit": 1,
            "max_unit": max(total, 1),
            "step_size": 1,
            "allocation_ratio": CPU_RATIO if name == "VCPU" else 1.0,
        }
        for name, total in totals.items()
    }


def _usage(row: HostRow) -> dict[str, int]:
    return {"VCPU": row.vcpus_used, "MEMORY_MB": row.memory_mb_used, "DISK_GB": row.disk_gb_used}


def _traits(row: HostRow) -> list[str]:
    found = ["COMPUTE_NODE", "HW_ARCH_X86_64"]
    return [*found, "COMPUTE_STATUS_DISABLED"] if row.host.disabled or not row.host.up else found


def _provider(row: HostRow) -> dict[str, Any]:
    base = f"/placement/resource_providers/{row.host.id}"
    parts = ("inventories", "usages", "aggregates", "traits", "allocations")
    return {
        "uuid": row.host.id,
        "name": row.host.name,
        "generation": row.host.version,
        "parent_provider_uuid": None,
        "root_provider_uuid": row.host.id,
        "links": [
            {"rel": "self", "href": base},
            *({"rel": part, "href": f"{base}/{part}"} for part in parts),
        ],
    }


async def _host(request: Request) -> HostRow:
    must_be_admin(request)
    wanted = request.path_params["uuid"]
    for row in await services(request).read.hosts():
        if row.host.id == wanted:
            return row
    raise NotFound(f"No resource provider with uuid {wanted} found.")


def _resources(request: Request) -> dict[str, int]:
    """`resources=VCPU:1,MEMORY_MB:512` of the query."""
    found: dict[str, int] = {}
    for part in filter(None, request.query_params.get("resources", "").split(",")):
        name, _, amount = part.partition(":")
        if name not in CLASSES:
            raise Invalid(f"Invalid resource class in resources parameter: {name}")
        if not (number := whole(amount)):
            raise Invalid(f"Requested resource {name} expected positive integer amount, not {amount!r}")
        found[name] = number
    return found


def _has_room(row: HostRow, wanted: dict[str, int]) -> bool:
    inventory, used = _inventory(row), _usage(row)
    return all(
        used[name] + amount <= inventory[name]["total"] * inventory[name]["allocation_ratio"]
        for name, amount in wanted.items()
    )


async def list_providers(request: Request) -> Response:
    """Hosts, filtered by name, uuid and free resources"""
    must_be_admin(request)
    params, wanted = request.query_params, _resources(request)
    rows = [
        row
        for row in await services(request).read.hosts()
        if params.get("name") in (None, row.host.name)
        and params.get("uuid") in (None, row.host.id)
        and _has_room(row, wanted)
    ]
    return Json({"resource_providers": [_provider(row) for row in rows]})


async def show_provider(request: Request) -> Response:
    """One host"""
    return Json(_provider(await _host(request)))


async def inventories(request: Request) -> Response:
    """What a host has"""
    row = await _host(request)
    return Json({"resource_provider_generation": row.host.version, "inventories": _inventory(row)})


async def inventory(request: Request) -> Response:
    """What a host has of one resource class"""
    row, name = await _host(request), request.path_params["name"]
    if name not in CLASSES:
        raise NotFound(f"No inventory of class {name} for {row.host.id}")
    return Json({"resource_provider_generation": row.host.version, **_inventory(row)[name]})


async def usages(request: Request) -> Response:
    """What is placed on a host, in sum"""
    row = await _host(request)
    return Json({"resource_provider_generation": row.host.version, "usages": _usage(row)})


async def provider_traits(request: Request) -> Response:
    """What a host is"""
    row = await _host(request)
    return Json({"resource_provider_generation": row.host.version, "traits": _traits(row)})


async def aggregates(request: Request) -> Response:
    """The aggregates of a host: none"""
    row = await _host(request)
    return Json({"resource_provider_generation": row.host.version, "aggregates": []})


def _amounts(placed: list[PlacementRow]) -> dict[str, int]:
    return {
        "VCPU": sum(one.vcpus for one in placed),
        "MEMORY_MB": sum(one.memory_mb for one in placed),
        "DISK_GB": sum(one.disk_gb for one in placed),
    }


async def provider_allocations(request: Request) -> Response:
    """What is placed on a host, server by server"""
    row = await _host(request)
    by_server: dict[str, list[PlacementRow]] = {}
    for one in await services(request).read.placements(row.host.name):
        by_server.setdefault(one.server_id, []).append(one)
    allocations = {server_id: {"resources": _amounts(placed)} for server_id, placed in by_server.items()}
    return Json({"resource_provider_generation": row.host.version, "allocations": allocations})


async def consumer_allocations(request: Request) -> Response:
    """Where a server is placed and what it takes"""
    must_be_admin(request)
    read, server_id = services(request).read, request.path_params["consumer"]
    server: Server | None = await read.server(server_id)
    if server is None or server.deleted:
        return Json({"allocations": {}})
    allocations = {}
    for row in await read.hosts():
        placed = [one for one in await read.placements(row.host.name) if one.server_id == server_id]
        if placed:
            allocations[row.host.id] = {"generation": row.host.version, "resources": _amounts(placed)}
    return Json(
        {
            "allocations": allocations,
            "project_id": server.project_id,
            "user_id": server.user_id,
            "consumer_generation": server.version,
        }
    )


async def project_usages(request: Request) -> Response:
    """What a project's servers take, in sum"""
    must_be_admin(request)
    project_id = request.query_params.get("project_id")
    if not project_id:
        raise Invalid("The query parameter project_id is missing")
    usage = await services(request).read.usage(project_id)
    return Json({"usages": {"VCPU": usage.cores, "MEMORY_MB": usage.ram}})


async def candidates(request: Request) -> Response:
    """Hosts that have room for the resources asked for"""
    must_be_admin(request)
    wanted = _resources(request)
    if not wanted:
        raise Invalid("The query parameter resources is missing", hint="Such as resources=VCPU:1,MEMORY_MB:512")
    limit = whole(request.query_params.get("limit", str(MOST_CANDIDATES)))
    if not limit:
        raise Invalid("limit has to be a positive number")
    rows = [
        row
        for row in await services(request).read.hosts()
        if row.host.up and not row.host.disabled and _has_room(row, wanted)
    ][: min(limit, MOST_CANDIDATES)]
    summaries = {}
    for row in rows:
        inventory, used = _inventory(row), _usage(row)
        summaries[row.host.id] = {
            "resources": {
                name: {
                    "capacity": int(inventory[name]["total"] * inventory[name]["allocation_ratio"]),
                    "used": used[name],
                }
                for name in CLASSES
            },
            "traits": _traits(row),
            "parent_provider_uuid": None,
            "root_provider_uuid": row.host.id,
        }
    requests = [_request(row.host.id, wanted, VERSIONS.of(request)) for row in rows]
    return Json({"allocation_requests": requests, "provider_summaries": summaries})


def _request(host_id: str, wanted: dict[str, int], version: Version) -> dict[str, Any]:
    """What to claim on a host: a list until 1.11, by provider since; it says which part is served where since 1.34."""
    if version < (1, 12):
        return {"allocations": [{"resource_provider": {"uuid": host_id}, "resources": wanted}]}
    mappings = {"mappings": {"": [host_id]}} if version >= (1, 34) else {}
    return {"allocations": {host_id: {"resources": wanted}}, **mappings}


async def read_only(request: Request) -> Response:
    """Refused: the scheduler decides what is placed where"""
    if request.method in ("GET", "HEAD"):
        raise NotFound("The resource could not be found.")
    must_be_admin(request)
    raise Rejected(
        "Placement is read-only here: what is placed where follows from the servers",
        code=409,
        reason="read_only",
        hint="Create, migrate or delete servers through the compute API",
    )


def routes() -> list[BaseRoute]:
    one = "/resource_providers/{uuid}"
    rest = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    served = {
        "/resource_providers": list_providers,
        one: show_provider,
        f"{one}/inventories": inventories,
        f"{one}/inventories/{{name}}": inventory,
        f"{one}/usages": usages,
        f"{one}/traits": provider_traits,
        f"{one}/aggregates": aggregates,
        f"{one}/allocations": provider_allocations,
        "/usages": project_usages,
        "/allocations/{consumer}": consumer_allocations,
        "/allocation_candidates": candidates,
    }
    known = [Route(path, VERSIONS.named(handler)) for path, handler in served.items()]
    return [*known, Route("/{rest:path}", read_only, methods=rest)]
