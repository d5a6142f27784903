"""Moves of servers: /os-migrations, and those in progress of one server.

Derived from the history: every resize and migration is an action, and what came of it is told by the action and by the
confirmation or reversal after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import NAMESPACE_OID, uuid5

from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from api.compute.lookups import integer, server_of
from api.compute.policy import enforce, may
from api.compute.schemas import history as schemas
from api.compute.times import micros, parse
from domain.errors import Invalid, NotFound
from domain.server import Server
from projections.queries import EventQuery
from projections.rows import ActionRow

TYPES = {"resize": "resize", "migrate": "migration", "evacuate": "evacuation", "live-migrate": "live-migration"}
_ENDS = {"confirm-resize": "confirmed", "revert-resize": "reverted"}
_RUNNING = "migrating"


@dataclass(frozen=True)
class Migration:
    row: ActionRow
    server: Server
    status: str

    @property
    def type(self) -> str:
        return TYPES[self.row.command]

    @property
    def uuid(self) -> str:
        return str(uuid5(NAMESPACE_OID, f"migration:{self.row.server_id}:{self.row.request_id}"))


async def _of_server(call: Call, server: Server) -> list[Migration]:
    """Newest first."""
    found: list[Migration] = []
    ended: str | None = None
    for row in await call.services.read.actions(server.id, internal=False):
        if row.command in _ENDS and row.result == "Success":
            ended = _ENDS[row.command]
        elif row.command in TYPES:
            found.append(Migration(row, server, _status(row, ended)))
            ended = None
    return found


def _status(row: ActionRow, ended: str | None) -> str:
    if row.result is None:
        return _RUNNING
    if row.result == "Error":
        return "error"
    if row.command in ("resize", "migrate"):
        return ended or "finished"
    return "completed"


async def _all(call: Call) -> list[Migration]:
    """Every move of every server, newest first."""
    types = tuple(f"server.{command}.accepted" for command in TYPES)
    events = await call.services.read.events(EventQuery(types=types, newest_first=True))
    found: dict[str, Migration] = {}
    for server_id in dict.fromkeys(event.aggregate_id for event in events):
        server = await call.services.read.server(server_id)
        if server is not None:
            found |= {one.uuid: one for one in await _of_server(call, server)}
    return sorted(found.values(), key=lambda one: one.row.id, reverse=True)


def _view(call: Call, one: Migration) -> dict[str, Any]:
    row = one.row
    body: dict[str, Any] = {
        "id": row.position_first,
        "instance_uuid": row.server_id,
        "source_node": row.host,
        "source_compute": row.host,
        "dest_node": one.server.host,
        "dest_compute": one.server.host,
        "dest_host": one.server.host,
        "status": one.status,
        "old_instance_type_id": 0,
        "new_instance_type_id": 0,
        "created_at": micros(row.start_time),
        "updated_at": micros(row.updated_at),
    }
    if call.version >= 23:
        body["migration_type"] = one.type
    if call.version >= 59:
        body["uuid"] = one.uuid
    if call.version >= 80:
        body["user_id"] = row.user_id
        body["project_id"] = row.project_id
    if not may(call, "os_compute_api:os-migrations:index:host"):
        for name in ("source_node", "source_compute", "dest_node", "dest_compute", "dest_host"):
            body[name] = None
    return body


async def index(call: Call) -> Reply:
    schemas.MIGRATIONS.check(call.version, call.query)
    enforce(call, "os_compute_api:os-migrations:index")
    found = [one for one in await _all(call) if _wanted(call, one)]
    if call.version < 59:
        found.reverse()
        return reply({"migrations": [_view(call, one) for one in found]})
    marker = call.argument("marker")
    if marker is not None:
        at = next((index for index, one in enumerate(found) if one.uuid == marker), None)
        if at is None:
            raise Invalid(f"Marker {marker} could not be found.")
        found = found[at + 1 :]
    most = call.services.settings.page_limit
    limit = min(integer(call, "limit") or most, most)
    body: dict[str, Any] = {"migrations": [_view(call, one) for one in found[:limit]]}
    if len(found) > limit:
        pairs = [(name, value) for name, values in call.query.items() if name != "marker" for value in values]
        query = urlencode([*pairs, ("marker", found[limit - 1].uuid)])
        href = f"{call.root}/v2.1{call.project_path}/os-migrations?{query}"
        body["migrations_links"] = [{"rel": "next", "href": href}]
    return reply(body)


def _wanted(call: Call, one: Migration) -> bool:
    row = one.row
    if not may(call, "os_compute_api:os-migrations:index:all_projects") and one.server.project_id != call.project_id:
        return False
    checks = {
        "host": (row.host, one.server.host),
        "source_compute": (row.host,),
        "instance_uuid": (row.server_id,),
        "status": (one.status,),
        "migration_type": (one.type,),
        "user_id": (row.user_id,),
        "project_id": (row.project_id,),
    }
    for name, values in checks.items():
        asked = call.argument(name)
        if asked is not None and asked not in values:
            return False
    since, before = call.argument("changes-since"), call.argument("changes-before")
    if since is not None and row.updated_at < parse(since, "changes-since"):
        return False
    return before is None or row.updated_at <= parse(before, "changes-before")


async def of_server(call: Call) -> Reply:
    """The live migrations in progress."""
    server = await server_of(call, call.params[0], "os_compute_api:servers:migrations:index")
    found = [one for one in await _of_server(call, server) if _in_progress(one)]
    return reply({"migrations": [_live_view(call, one) for one in found]})


def _in_progress(one: Migration) -> bool:
    return one.type == "live-migration" and one.status == _RUNNING


def _live_view(call: Call, one: Migration) -> dict[str, Any]:
    sizes = ("memory_total_bytes", "memory_processed_bytes", "memory_remaining_bytes")
    disks = ("disk_total_bytes", "disk_processed_bytes", "disk_remaining_bytes")
    body = _view(call, one) | {"server_uuid": one.row.server_id} | dict.fromkeys((*sizes, *disks))
    for name in ("instance_uuid", "old_instance_type_id", "new_instance_type_id", "migration_type"):
        body.pop(name, None)
    return body


async def _find(call: Call, rule: str) -> Migration:
    server_id, migration_id = call.params
    server = await server_of(call, server_id, rule)
    for one in await _of_server(call, server):
        if _in_progress(one) and str(one.row.position_first) == migration_id:
            return one
    raise NotFound(f"In-progress live migration {migration_id} is not found for server {server_id}.")


async def show(call: Call) -> Reply:
    return reply({"migration": _live_view(call, await _find(call, "os_compute_api:servers:migrations:show"))})


async def abort(call: Call) -> Reply:
    await _find(call, "os_compute_api:servers:migrations:delete")
    raise Invalid("The live migration cannot be aborted.", hint="Wait for it to end.")


async def act(call: Call) -> Reply:
    body = await call.object()
    key = next(iter(body), "")
    if key != "force_complete":
        raise Invalid(f"There is no such action: {key}" if key else "Malformed request body")
    await _find(call, "os_compute_api:servers:migrations:force_complete")
    raise Invalid("The live migration cannot be forced to complete.", hint="Wait for it to end.")


ROUTES = [
    Route("GET", "/os-migrations", index),
    Route("GET", "/servers/{}/migrations", of_server, since=23),
    Route("GET", "/servers/{}/migrations/{}", show, since=23),
    Route("DELETE", "/servers/{}/migrations/{}", abort, since=24),
    Route("POST", "/servers/{}/migrations/{}/action", act, since=22),
]
