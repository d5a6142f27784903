"""GET /v1/events: events of the log, oldest first, with filters and pages.

The read model finds them; their data are read from the log itself. A page tells where the next one starts.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, caller, services
from api.v1.cloudevents import cloud_event
from api.v1.filters import FILTERS, event_filter
from api.v1.places import parse_place
from api.v1.scope import listed_project, only_known, whole_number
from commands.context import SERVICE
from eventlog.envelope import Recorded
from projections.facts import event_id
from projections.queries import EventQuery
from projections.schema import EVENTS_PER_COMMIT

if TYPE_CHECKING:
    from api.services import Services

MAX_PAGE = 500
KNOWN = (*FILTERS, "after", "limit", "order")


async def listing(request: Request) -> Response:
    """List events as CloudEvents

    Filters: `server`, `kind`, `type` (a trailing `*` matches any rest), `actor`, `request`, `since`, `until`; `after`
    (a position or an event's id) and `limit` page through, oldest first unless `order=desc`.
    """
    only_known(request, *KNOWN)
    at, who = services(request), caller(request)
    wanted = event_filter(request)
    limit = whole_number(request, "limit", 100, most=MAX_PAGE)
    position = at.read.position  # before anything is read: whoever follows from there misses nothing
    newest_first = request.query_params.get("order", "asc") == "desc"
    rows = await at.read.events(
        EventQuery(
            project_id=listed_project(who),
            kind=wanted.kind,
            aggregate_id=wanted.server_id,
            types=(wanted.type,) if wanted.type else (),
            user_id=await _user_id(at, wanted.actor),
            request_id=wanted.request_id,
            since=wanted.since,
            until=wanted.until,
            after_id=None if newest_first else _id(request.query_params.get("after"), EVENTS_PER_COMMIT - 1),
            before_id=_id(request.query_params.get("after"), 0) if newest_first else None,
            newest_first=newest_first,
            limit=limit,
        )
    )
    positions = list(dict.fromkeys(row.position for row in rows))
    commits: dict[int, Recorded | None] = dict(
        zip(positions, await asyncio.gather(*map(at.log.at, positions)), strict=True)
    )
    shown = [cloud_event(commit, row.index, who) for row in rows if (commit := commits[row.position]) is not None]
    body: dict[str, Any] = {"events": shown, "position": position}
    if rows and len(rows) >= limit:
        body["next_after"] = f"{rows[-1].position}.{rows[-1].index}"
    return Json(body, headers={"X-Log-Position": str(position)})


def _id(text: str | None, index_left_out: int) -> int | None:
    """The event that a page goes on after: `12.0` is one event, `12` all of a commit."""
    if text is None:
        return None
    place = parse_place(text, "after")
    return event_id(place.position, index_left_out if place.index is None else min(place.index, EVENTS_PER_COMMIT - 1))


async def _user_id(at: Services, actor: str | None) -> str | None:
    """An actor is given by id or by name."""
    if actor is None:
        return None
    if actor == SERVICE.user_name:
        return SERVICE.user_id
    named = await at.read.resource_by_name("user", actor)
    return named.id if named is not None else actor
