"""A server's history as Nova shows it: actions, and the events of one. Also of deleted servers, from 2.21 on."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from api.compute.lookups import integer, server_of
from api.compute.policy import may
from api.compute.schemas import history as schemas
from api.compute.times import micros, parse
from domain.errors import Invalid, NotFound
from projections.query import MarkerNotFound
from projections.rows import ActionRow, EventRow


async def index(call: Call) -> Reply:
    schemas.LIST.check(call.version, call.query)
    server_id = call.params[0]
    server = await server_of(call, server_id, "os_compute_api:os-instance-actions:list", deleted=call.version >= 21)
    arguments: dict[str, Any] = {}
    limit = call.services.settings.page_limit
    if call.version >= 58:
        limit = min(integer(call, "limit") or limit, limit)
        since, before = call.argument("changes-since"), call.argument("changes-before")
        if since is not None:
            arguments["changes_since"] = parse(since, "changes-since")
        if before is not None and call.version >= 66:
            arguments["changes_before"] = parse(before, "changes-before")
            if since is not None and arguments["changes_since"] > arguments["changes_before"]:
                raise Invalid("The value of changes-since must be less than or equal to changes-before.")
        arguments["marker"] = call.argument("marker")
    try:
        rows = await call.services.read.actions(server.id, limit=limit, internal=False, **arguments)
    except MarkerNotFound as error:
        raise Invalid(f"marker [{arguments['marker']}] not found") from error
    body: dict[str, Any] = {"instanceActions": [_brief(call, row) for row in rows]}
    if call.version >= 58 and rows and len(rows) >= limit:
        pairs = [(name, value) for name, values in call.query.items() if name != "marker" for value in values]
        query = urlencode([*pairs, ("marker", rows[-1].request_id)])
        path = f"{call.root}/v2.1{call.project_path}/servers/{server_id}/os-instance-actions?{query}"
        body["links"] = [{"rel": "next", "href": path}]
    return reply(body)


async def show(call: Call) -> Reply:
    server_id, request_id = call.params
    server = await server_of(call, server_id, "os_compute_api:os-instance-actions:show", deleted=call.version >= 21)
    row = await call.services.read.action(server.id, request_id)
    if row is None or row.internal:
        raise NotFound(f"Action {request_id} not found")
    body = _brief(call, row)
    everything = may(call, "os_compute_api:os-instance-actions:events", server.project_id)
    if everything or call.version >= 51:
        body["events"] = [_event(call, event, everything) for event in row.events]
    return reply({"instanceAction": body})


def _brief(call: Call, row: ActionRow) -> dict[str, Any]:
    body: dict[str, Any] = {
        "action": row.action,
        "instance_uuid": row.server_id,
        "message": row.message,
        "project_id": row.project_id,
        "request_id": row.request_id,
        "start_time": micros(row.start_time),
        "user_id": row.user_id,
    }
    if call.version >= 58:
        body["updated_at"] = micros(row.updated_at)
    return body


def _event(call: Call, event: EventRow, everything: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "event": event.event,
        "start_time": micros(event.start_time),
        "finish_time": micros(event.finish_time),
        "result": event.result,
    }
    if everything:
        body["traceback"] = event.traceback
    if call.version >= 62:
        body["hostId"] = event.host_id
        if everything:
            body["host"] = event.host
    if call.version >= 84 and everything:
        body["details"] = event.details
    return body


ROUTES = [
    Route("GET", "/servers/{}/os-instance-actions", index),
    Route("GET", "/servers/{}/os-instance-actions/{}", show),
]
