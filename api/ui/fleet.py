"""The fleet: servers with status, host and last action, and the hosts they are on. Filters live in the address."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from api.http import caller, services
from api.ui.page import page, render
from api.v1.hosts import host_list
from api.v1.servers import fleet_query, project_of
from domain.errors import Invalid, NotFound
from domain.states import status
from projections.query import InvalidQuery, MarkerNotFound, NoExpression, ServerQuery

PAGE = 100
CHIPS = (
    *("", "ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED", "RESCUE", "SHELVED", "SHELVED_OFFLOADED"),
    *("BUILD", "VERIFY_RESIZE", "ERROR", "SOFT_DELETED", "DELETED"),
)
FILTERS = ("name", "status", "host")
HOSTS_SHOWN = 12


@page
async def fleet(request: Request) -> Response:
    """List servers and hosts"""
    at, who = services(request), caller(request)
    query = {key: value for key, value in request.query_params.items() if value and key != "after"}
    project = project_of(request)
    why = None
    try:
        wanted = fleet_query(query, project, limit=PAGE)
        found = await at.read.servers(wanted)
    except MarkerNotFound as error:
        sought = f"No server has the id {query['marker']!r}, after which this page was to begin"
        raise Invalid(sought, hint="The first page has the newest ones.") from error
    except NoExpression as error:
        # No refusal: a live page comes here when its last server gets another name, and goes on looking.
        found, why = [], str(error)
    except InvalidQuery as error:
        raise Invalid(str(error), hint="Clear the filters and try again.") from error
    last = await at.read.newest_actions([server.id for server in found])
    rows = [
        {"server": one, "status": status(one.vm_state, one.task_state), "action": last.get(one.id)} for one in found
    ]
    hosts = await host_list(at, who)
    return render(
        request,
        "fleet.html",
        rows=rows,
        query=query,
        chips=await _chips(request, query, project),
        why=why,
        filtered=[key for key in FILTERS if key in query],
        hosts=hosts[:HOSTS_SHOWN],
        hosts_total=len(hosts),
        host_names=[host["name"] for host in hosts],
        next_page=_with(query, marker=found[-1].id) if len(found) == PAGE else None,
        first_page=_with(query) if "marker" in query else None,
    )


async def _chips(request: Request, query: dict[str, str], project: str | None) -> list[dict[str, Any]]:
    """One chip per status that servers have, with their number; a click filters."""
    read, chips = services(request).read, []
    for name in CHIPS:
        count = await read.servers_count(
            ServerQuery(project_id=project) if not name else fleet_query({"status": name}, project, limit=0)
        )
        chosen = query.get("status", "").upper() == name
        if count or chosen or not name:
            chips.append({"name": name, "count": count, "chosen": chosen, "href": _with(query, status=name)})
    return chips


def _with(query: dict[str, str], **changes: str) -> str:
    """The address of this page with other filters."""
    kept = {key: value for key, value in query.items() if key != "marker"} | changes
    return "?" + urlencode({key: value for key, value in kept.items() if value})


@page
async def nowhere(request: Request) -> Response:
    """Say that there is no such page"""
    raise NotFound(f"There is no page {request.url.path}", hint="Go to the servers, and on from there.")
