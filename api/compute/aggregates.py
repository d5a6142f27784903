"""/os-aggregates: sets of hosts with metadata; one that names an availability zone puts its hosts into it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import NAMESPACE_OID, uuid5

from api.compute.call import Call, Reply, chosen, empty, reply
from api.compute.dispatch import Route
from api.compute.hosts_known import by_name
from api.compute.policy import enforce
from api.compute.schemas import hosts as schemas
from api.compute.times import micros
from api.shapes import whole
from domain.errors import Conflict, Invalid, NotFound
from domain.resources import HostAggregate

_RULE = "os_compute_api:os-aggregates:"
DEFAULT_ZONE = "nova"


def _id_of(number: int) -> str:
    return str(uuid5(NAMESPACE_OID, f"host-aggregate:{number}"))


def _view(call: Call, aggregate: HostAggregate) -> dict[str, Any]:
    metadata = dict(aggregate.metadata)
    if aggregate.availability_zone:
        metadata["availability_zone"] = aggregate.availability_zone
    body: dict[str, Any] = {
        "id": aggregate.number,
        "name": aggregate.name,
        "availability_zone": aggregate.availability_zone,
        "hosts": aggregate.hosts,
        "metadata": metadata,
        "created_at": micros(aggregate.created_at),
        "updated_at": micros(aggregate.updated_at) if aggregate.version > 1 else None,
        "deleted": False,
        "deleted_at": None,
    }
    if call.version >= 41:
        body["uuid"] = aggregate.id
    return body


async def _all(call: Call, *, deleted: bool = False) -> list[HostAggregate]:
    found = await call.services.read.resources("host_aggregate", include_deleted=deleted)
    return [cast("HostAggregate", one) for one in found]


async def index(call: Call) -> Reply:
    enforce(call, _RULE + "index")
    return reply({"aggregates": [_view(call, one) for one in await _all(call)]})


async def _find(call: Call) -> HostAggregate:
    wanted = call.params[0]
    number = whole(wanted)
    if number is None:
        raise Invalid(f"Invalid input for field/attribute id. Value: {wanted}. '{wanted}' is not an integer")
    found = await call.services.read.resource("host_aggregate", _id_of(number))
    if found is None or found.deleted:
        raise NotFound(f"Aggregate {wanted} could not be found.")
    return cast("HostAggregate", found)


async def show(call: Call) -> Reply:
    enforce(call, _RULE + "show")
    return reply({"aggregate": _view(call, await _find(call))})


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.AGGREGATE.check(call.version, body)
    enforce(call, _RULE + "create")
    wanted: dict[str, Any] = body["aggregate"]
    known = await _all(call, deleted=True)
    if any(one.name == wanted["name"] and not one.deleted for one in known):
        raise Conflict(f"Aggregate {wanted['name']} already exists.")
    number = max((one.number for one in known), default=0) + 1
    fields = {"name": wanted["name"], "number": number, "availability_zone": wanted.get("availability_zone")}
    made = await call.services.commands.create("host_aggregate", fields, call.context, id=_id_of(number))
    shown = _view(call, cast("HostAggregate", made))
    return reply({"aggregate": {key: value for key, value in shown.items() if key not in {"hosts", "metadata"}}})


async def update(call: Call) -> Reply:
    body = await call.object()
    schemas.AGGREGATE_UPDATE.check(call.version, body)
    enforce(call, _RULE + "update")
    aggregate = await _find(call)
    wanted: dict[str, Any] = body["aggregate"]
    if any(one.name == wanted.get("name") and one.id != aggregate.id for one in await _all(call)):
        raise Conflict(f"Aggregate {wanted['name']} already exists.")
    changed = await _change(call, aggregate, wanted)
    if "availability_zone" in wanted:
        for host in changed.hosts:
            await _move(call, host, changed.availability_zone)
    return reply({"aggregate": _view(call, changed)})


async def _change(call: Call, aggregate: HostAggregate, changes: dict[str, Any]) -> HostAggregate:
    changed = await call.services.commands.update("host_aggregate", aggregate.id, changes, call.context)
    return cast("HostAggregate", changed)


async def _move(call: Call, host: str, zone: str | None) -> None:
    """Put a host into a zone. One that holds servers stays where its servers were promised to be."""
    row = await by_name(call, host, f"Compute host {host} could not be found.")
    wanted = zone or DEFAULT_ZONE
    if row.host.availability_zone == wanted:
        return
    if row.servers:
        raise Conflict(
            f"Cannot update aggregate. Reason: One or more hosts contain instances in this zone: {host}.",
            hint="Move or delete its servers first.",
        )
    await call.services.commands.update("host", row.host.id, {"availability_zone": wanted}, call.context, verb="move")


async def delete(call: Call) -> Reply:
    enforce(call, _RULE + "delete")
    aggregate = await _find(call)
    if aggregate.hosts:
        raise Invalid(f"Cannot remove aggregate. Reason: Aggregate {aggregate.number} still has hosts.")
    await call.services.commands.delete("host_aggregate", aggregate.id, call.context)
    return empty(200)


async def act(call: Call) -> Reply:
    body = await call.object()
    return reply({"aggregate": _view(call, await chosen(body, _ACTIONS)(call, body))})


async def _add_host(call: Call, body: dict[str, Any]) -> HostAggregate:
    schemas.ADD_HOST.check(call.version, body)
    enforce(call, _RULE + "add_host")
    aggregate, host = await _find(call), body["add_host"]["host"]
    await by_name(call, host, f"Compute host {host} could not be found.")
    if host in aggregate.hosts:
        raise Conflict(f"Aggregate {aggregate.number} already has host {host}.")
    if aggregate.availability_zone:
        await _move(call, host, aggregate.availability_zone)
    return await _change(call, aggregate, {"hosts": [*aggregate.hosts, host]})


async def _remove_host(call: Call, body: dict[str, Any]) -> HostAggregate:
    schemas.REMOVE_HOST.check(call.version, body)
    enforce(call, _RULE + "remove_host")
    aggregate, host = await _find(call), body["remove_host"]["host"]
    if host not in aggregate.hosts:
        raise NotFound(f"Cannot remove host {host} in aggregate {aggregate.number}: not found")
    if aggregate.availability_zone:
        await _move(call, host, None)
    return await _change(call, aggregate, {"hosts": [one for one in aggregate.hosts if one != host]})


async def _set_metadata(call: Call, body: dict[str, Any]) -> HostAggregate:
    schemas.SET_METADATA.check(call.version, body)
    enforce(call, _RULE + "set_metadata")
    aggregate = await _find(call)
    wanted: dict[str, str | None] = dict(body["set_metadata"]["metadata"])
    changes: dict[str, Any] = {}
    if "availability_zone" in wanted:
        changes["availability_zone"] = wanted.pop("availability_zone")
        for host in aggregate.hosts:
            await _move(call, host, changes["availability_zone"])
    merged = aggregate.metadata | wanted
    changes["metadata"] = {key: value for key, value in merged.items() if value is not None}
    return await _change(call, aggregate, changes)


_ACTIONS: dict[str, Callable[[Call, dict[str, Any]], Awaitable[HostAggregate]]] = {
    "add_host": _add_host,
    "remove_host": _remove_host,
    "set_metadata": _set_metadata,
}


async def cache_images(call: Call) -> Reply:
    """Images are read from a shared directory, so there is nothing to fetch ahead; the images have to exist."""
    body = await call.object()
    schemas.IMAGES.check(call.version, body)
    enforce(call, "compute:aggregates:images")
    await _find(call)
    for one in body["cache"]:
        if await call.services.read.resource("image", one["id"]) is None:
            raise Invalid(f"Image {one['id']} could not be found.")
    return empty(202)


ROUTES = [
    Route("GET", "/os-aggregates", index),
    Route("POST", "/os-aggregates", create),
    Route("GET", "/os-aggregates/{}", show),
    Route("PUT", "/os-aggregates/{}", update),
    Route("DELETE", "/os-aggregates/{}", delete),
    Route("POST", "/os-aggregates/{}/action", act),
    Route("POST", "/os-aggregates/{}/images", cache_images, since=81),
]
