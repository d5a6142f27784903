"""Servers, now and at any past moment.

An answer about now comes from the read model and says how far it is (`X-Log-Position`); an answer about a past moment
is the state that the commit of that moment carries. `ETag` is the server's version: send it as `If-Match` with a
command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, caller, services
from api.v1.document import document, legal_now
from api.v1.moments import list_at, parse, state_at
from api.v1.scope import NO_PROJECT, PAGE_LIMIT, listed_project, only_known, visible_server, whole_number
from domain.errors import Invalid
from domain.server import Server
from domain.states import status, statuses_to_states
from eventlog.envelope import Recorded
from projections.as_of import Moment
from projections.query import InvalidQuery, MarkerNotFound, ServerQuery, StatePair

if TYPE_CHECKING:
    from api.services import Services

KNOWN = ("name", "status", "host", "deleted", "all_projects", "limit", "marker", "as_of")


async def index(request: Request) -> Response:
    """What this API offers"""
    return Json(
        {
            "name": "chronova",
            "commands": "/v1/commands",
            "servers": "/v1/servers",
            "events": "/v1/events",
            "stream": "/v1/events/stream",
            "machine": "/v1/machine",
            "hosts": "/v1/hosts",
            "audit": "/v1/audit/checkpoint",
            "viewer": "/ui/",
        }
    )


async def listing(request: Request) -> Response:
    """List servers

    Filters: `name` (a regular expression, RE2; text that is none finds the names that hold it), `status`, `host`;
    `limit` and `marker` page through, newest first. `as_of` (a position or a time) lists those of then as they were
    then, and the filters hold of that: at most 1,000 servers are looked at for a page, so one may be shorter than
    `limit` and still have a `next_marker`.
    """
    only_known(request, *KNOWN)
    query = request.query_params
    at = services(request).read
    limit = whole_number(request, "limit", 100, most=PAGE_LIMIT)
    wanted = fleet_query(dict(query), project_of(request), limit=limit)
    try:
        if (moment := query.get("as_of")) is not None:
            return await _listing_then(services(request), wanted, parse(moment))
        found = await at.servers(wanted)
    except MarkerNotFound as error:
        raise Invalid(f"marker {query.get('marker')} is no server", hint="Use the id of the last one shown.") from error
    except InvalidQuery as error:
        raise Invalid(str(error)) from error
    servers = [summary(server) for server in found]
    body: dict[str, Any] = {"servers": servers, "position": at.position}
    if found and len(found) == limit:
        body["next_marker"] = found[-1].id
    return Json(body, headers={"X-Log-Position": str(at.position)})


async def _listing_then(at: Services, wanted: ServerQuery, moment: Moment) -> Response:
    page = await list_at(at, wanted, moment)
    body: dict[str, Any] = {"servers": [summary(server) for server in page.servers], "as_of": moment}
    if page.next_marker is not None:
        body["next_marker"] = page.next_marker
    return Json(body)


def project_of(request: Request) -> str | None:
    """The project to list: an administrator may ask for its own only (`all_projects=false`)."""
    who = caller(request)
    if who.is_admin and request.query_params.get("all_projects", "true").lower() not in ("true", "1", "yes"):
        return who.project_id or NO_PROJECT
    return listed_project(who)


def fleet_query(query: dict[str, str], project_id: str | None, *, limit: int) -> ServerQuery:
    """The filters of a list of servers, from the query of an address."""
    states: tuple[StatePair, ...] | None = None
    if wanted := query.get("status", "").upper():
        states = tuple((vm, None if tasks is None else tuple(tasks)) for vm, tasks in statuses_to_states(wanted))
        if not states:
            raise Invalid(f"status {wanted!r} is none that a server can have", hint="GET /v1/machine lists the states.")
    return ServerQuery(
        project_id=project_id,
        states=states,
        name_regex=query.get("name") or None,
        host=query.get("host") or None,
        deleted=None if query.get("deleted", "").lower() in ("true", "1", "yes") or wanted == "DELETED" else False,
        limit=limit,
        marker=query.get("marker") or None,
    )


def summary(server: Server) -> dict[str, Any]:
    operation = server.operation
    return {
        "id": server.id,
        "name": server.name,
        "status": status(server.vm_state, server.task_state),
        "vm_state": server.vm_state,
        "task_state": server.task_state,
        "power_state": server.power_state,
        "host": server.host,
        "project_id": server.project_id,
        "version": server.version,
        "created_at": server.created_at,
        "updated_at": server.updated_at,
        "operation": None if operation is None else {"command": operation.command, "step": operation.step},
    }


async def one(request: Request) -> Response:
    """Show a server

    `as_of` (a position or a time) shows it as it was then, and who and what led to that; the commands legal now are
    shown for now only.
    """
    at = services(request)
    server = await visible_server(request)
    who = caller(request)
    moment = request.query_params.get("as_of")
    if moment is not None:
        then, recorded = await state_at(at, server.id, parse(moment))
        led_to_it = await _led_to(at, recorded) | {"newest": then.version == server.version}
        return Json({"server": document(then, who), "as_of": led_to_it}, headers={"ETag": f'"{then.version}"'})
    body: dict[str, Any] = {
        "server": document(server, who),
        "commands": legal_now(at, server, who),
        "position": at.read.position,
    }
    return Json(body, headers={"ETag": f'"{server.version}"', "X-Log-Position": str(at.read.position)})


async def _led_to(at: Services, recorded: Recorded) -> dict[str, Any]:
    """Where a state came from: the commit that made it, and the action that the commit belongs to with who asked."""
    meta = recorded.commit.meta
    action = await at.read.action(recorded.commit.id, meta.request_id)
    return {
        "position": recorded.position,
        "at": meta.occurred_at,
        "by": meta.actor,
        "request_id": meta.request_id,
        "action": None if action is None else {"command": action.command, "asked_by": action.user_name},
        "events": [event.type for event in recorded.commit.events],
    }
