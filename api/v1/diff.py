"""What changed on a server between two moments: field by field, and through which commits."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, caller, services
from api.v1.document import document
from api.v1.moments import LAST, commit_at, parse, state_of
from api.v1.scope import visible_server
from domain.errors import Invalid

MAX_COMMITS = 200


async def diff(request: Request) -> Response:
    """Compare two moments of a server

    `from` and `to` are positions or times; `to` left out means now.
    """
    at, who = services(request), caller(request)
    server = await visible_server(request)
    text = request.query_params.get("from")
    if text is None:
        raise Invalid("from is missing", hint="Give ?from= and ?to= as positions or times.")
    first = await commit_at(at, server.id, parse(text, "from"))
    last = await commit_at(at, server.id, parse(request.query_params.get("to", str(LAST)), "to"))
    before, after = document(state_of(first), who), document(state_of(last), who)
    low, high = sorted((first.position, last.position))
    commits = await at.log.read("server", server.id, after_position=low, upto=high)
    return Json(
        {
            "server_id": server.id,
            "from": {"position": first.position, "at": first.commit.meta.occurred_at, "version": first.commit.version},
            "to": {"position": last.position, "at": last.commit.meta.occurred_at, "version": last.commit.version},
            "changes": changes(before, after),
            "commits": [
                {
                    "position": one.position,
                    "at": one.commit.meta.occurred_at,
                    "by": one.commit.meta.actor.user_name,
                    "request_id": one.commit.meta.correlation_id or one.commit.meta.request_id,
                    "events": [event.type for event in one.commit.events],
                }
                for one in commits[:MAX_COMMITS]
            ],
            "commits_total": len(commits),
        }
    )


def changes(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """The fields that differ, as `{"field", "before", "after"}`; objects are compared key by key."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            change
            for key in sorted(before.keys() | after.keys())
            for change in changes(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if before == after else [{"field": path, "before": before, "after": after}]
