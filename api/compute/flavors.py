"""Flavors: list, show, create, describe, delete.

Users know a flavor by `flavor_id` (free text); the aggregate's own id derives from it, so two creates of one id cannot
both succeed. A deleted flavor lives on in the servers that were made from it.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlencode
from uuid import uuid4

from api.compute.call import Call, Reply, empty, flag, reply
from api.compute.dispatch import Route
from api.compute.lookups import flavor_aggregate, flavor_of, integer
from api.compute.policy import enforce, may
from api.compute.schemas import flavors as schemas
from api.compute.servers_view import links, view_of
from api.shapes import whole
from domain.errors import Conflict, Invalid
from domain.resources import Flavor

_SORT_KEYS = {
    "flavorid": "flavor_id",
    "id": "id",
    "name": "name",
    "memory_mb": "ram",
    "vcpus": "vcpus",
    "root_gb": "disk",
    "ephemeral_gb": "ephemeral",
    "swap": "swap",
    "disabled": "disabled",
    "is_public": "is_public",
    "rxtx_factor": "rxtx_factor",
    "vcpu_weight": "name",
    "created_at": "created_at",
    "updated_at": "updated_at",
}


def brief(call: Call, flavor: Flavor) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": flavor.flavor_id,
        "name": flavor.name,
        "links": links(view_of(call), "flavors", flavor.flavor_id),
    }
    if call.version >= 55:
        body["description"] = flavor.description
    return body


def detail(call: Call, flavor: Flavor) -> dict[str, Any]:
    body = brief(call, flavor) | {
        "ram": flavor.ram,
        "disk": flavor.disk,
        "swap": flavor.swap if flavor.swap or call.version >= 75 else "",
        "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral,
        "OS-FLV-DISABLED:disabled": flavor.disabled,
        "vcpus": flavor.vcpus,
        "os-flavor-access:is_public": flavor.is_public,
        "rxtx_factor": flavor.rxtx_factor,
    }
    if call.version >= 61 and may(call, "os_compute_api:os-flavor-extra-specs:index"):
        body["extra_specs"] = flavor.extra_specs
    return body


async def index(call: Call) -> Reply:
    flavors, more = await _list(call, "flavors")
    return reply({"flavors": [brief(call, flavor) for flavor in flavors]} | more)


async def detailed(call: Call) -> Reply:
    flavors, more = await _list(call, "flavors/detail")
    return reply({"flavors": [detail(call, flavor) for flavor in flavors]} | more)


async def _list(call: Call, path: str) -> tuple[list[Flavor], dict[str, Any]]:
    schemas.LIST.check(call.version, call.query)
    flavors = [cast("Flavor", one) for one in await call.services.read.resources("flavor")]
    flavors = [one for one in flavors if _wanted(call, one)]
    for name, field in (("minRam", "ram"), ("minDisk", "disk")):
        text = call.argument(name)
        if text is not None:
            least = whole(text)
            if least is None:
                raise Invalid(f"Invalid {name} filter [{text}]")
            flavors = [one for one in flavors if getattr(one, field) >= least]
    key = call.argument("sort_key", "flavorid") or "flavorid"
    if key not in _SORT_KEYS:
        raise Invalid("Sort key supplied is invalid: " + key)
    flavors.sort(key=lambda one: one.flavor_id)
    flavors.sort(key=lambda one: getattr(one, _SORT_KEYS[key]), reverse=call.argument("sort_dir", "asc") == "desc")
    return _page(call, flavors, path)


def _wanted(call: Call, flavor: Flavor) -> bool:
    """Administrators may ask for private ones (`is_public=false`) or for all (`none`); others see what they may use."""
    if not call.is_admin:
        return flavor.is_public or call.project_id in flavor.access
    text = call.argument("is_public")
    if text is None:
        return flavor.is_public or call.project_id in flavor.access
    if text.lower() == "none":
        return True
    if text.lower() not in {"true", "false", "t", "f", "1", "0", "yes", "no", "y", "n", "on", "off"}:
        raise Invalid(f"Invalid is_public filter [{text}]")
    return flavor.is_public == flag(text)


def _page(call: Call, flavors: list[Flavor], path: str) -> tuple[list[Flavor], dict[str, Any]]:
    marker = call.argument("marker")
    if marker is not None:
        at = next((index for index, one in enumerate(flavors) if one.flavor_id == marker), None)
        if at is None:
            raise Invalid(f"marker [{marker}] not found")
        flavors = flavors[at + 1 :]
    most = call.services.settings.page_limit
    limit = min(integer(call, "limit") or most, most)
    if len(flavors) <= limit:
        return flavors, {}
    page = flavors[:limit]
    pairs = [(name, value) for name, values in call.query.items() if name != "marker" for value in values]
    query = urlencode([*pairs, ("marker", page[-1].flavor_id)])
    return page, {"flavors_links": [{"rel": "next", "href": f"{call.root}/v2.1{call.project_path}/{path}?{query}"}]}


async def show(call: Call) -> Reply:
    return reply({"flavor": detail(call, await flavor_of(call, call.params[0]))})


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.CREATE.check(call.version, body)
    enforce(call, "os_compute_api:os-flavor-manage:create")
    wanted: dict[str, Any] = body["flavor"]
    flavor_id = str(wanted.get("id") or "auto")
    if flavor_id == "auto":
        flavor_id = str(uuid4())
    public = flag(wanted.get("os-flavor-access:is_public", True))
    if await call.services.read.resources("flavor", where={"flavor_id": flavor_id}):
        raise Conflict(f"Flavor with ID {flavor_id} already exists.")
    if await call.services.read.resources("flavor", name=wanted["name"]):
        raise Conflict(f"Flavor with name {wanted['name']} already exists.")
    fields: dict[str, Any] = {
        "name": wanted["name"],
        "flavor_id": flavor_id,
        "ram": int(wanted["ram"]),
        "vcpus": int(wanted["vcpus"]),
        "disk": int(wanted["disk"]),
        "ephemeral": int(wanted.get("OS-FLV-EXT-DATA:ephemeral", 0)),
        "swap": int(wanted.get("swap", 0)),
        "rxtx_factor": float(wanted.get("rxtx_factor", 1.0)),
        "is_public": public,
        "description": wanted.get("description"),
        "access": [] if public or not call.project_id else [call.project_id],
    }
    try:
        flavor = await call.services.commands.create("flavor", fields, call.context, id=flavor_aggregate(flavor_id))
    except Conflict as error:
        raise Conflict(f"Flavor with ID {flavor_id} already exists.") from error
    return reply({"flavor": detail(call, cast("Flavor", flavor))})


async def update(call: Call) -> Reply:
    body = await call.object()
    schemas.UPDATE.check(call.version, body)
    enforce(call, "os_compute_api:os-flavor-manage:update")
    flavor = await flavor_of(call, call.params[0])
    changes = {"description": body["flavor"]["description"]}
    changed = await call.services.commands.update("flavor", flavor.id, changes, call.context)
    return reply({"flavor": detail(call, cast("Flavor", changed))})


async def delete(call: Call) -> Reply:
    enforce(call, "os_compute_api:os-flavor-manage:delete")
    flavor = await flavor_of(call, call.params[0])
    await call.services.commands.delete("flavor", flavor.id, call.context)
    return empty(202)


ROUTES = [
    Route("GET", "/flavors", index),
    Route("GET", "/flavors/detail", detailed),
    Route("POST", "/flavors", create),
    Route("GET", "/flavors/{}", show),
    Route("PUT", "/flavors/{}", update, since=55),
    Route("DELETE", "/flavors/{}", delete),
]
