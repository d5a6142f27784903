"""What changed on a server between two moments: field by field, and through which commits."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, caller, services
from api.v1.document import document
from api.v1.moments import NOW, parse, state_at
from api.v1.scope import visible_server
from domain.errors import Invalid
from projections.as_of import difference

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
    before, first = await state_at(at, server.id, parse(text, "from"))
    after, last = await state_at(at, server.id, parse(request.query_params.get("to", str(NOW)), "to"))
    changed = difference(document(before, who), document(after, who))
    low, high = sorted((first.position, last.position))
    commits = await at.log.read("server", server.id, after_position=low, upto=high)
    return Json(
        {
            "server_id": server.id,
            "from": {"position": first.position, "at": first.commit.meta.occurred_at, "version": first.commit.version},
            "to": {"position": last.position, "at": last.commit.meta.occurred_at, "version": last.commit.version},
            "changes": [{"field": name, "before": old, "after": new} for name, (old, new) in changed.items()],
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
