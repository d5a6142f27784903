"""One commit of a server: its events, what they changed, what caused them, and the state that they led to."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.http import caller, services
from api.ui.page import page, render
from api.v1.document import document
from api.v1.moments import state_at
from api.v1.scope import visible_server
from api.v1.story import entries
from domain.errors import NotFound
from domain.server import Server
from projections.as_of import difference
from projections.queries import EventQuery


@page
async def moment(request: Request) -> Response:
    """Show a server as it was at a position"""
    at, who = services(request), caller(request)
    server, position = await visible_server(request), request.path_params["position"]
    then, recorded = await state_at(at, server.id, position)
    if recorded.position != position:
        raise NotFound(
            f"Position {position} is no event of {server.name or server.id}",
            hint=f"The newest one before it is at position {recorded.position}.",
        )
    previous = await at.read.commit_position(server.id, upto=position - 1)
    before: Server | None = None
    if previous:
        before, _ = await state_at(at, server.id, previous)
    following = await at.read.events(EventQuery(aggregate_id=server.id, after=position, limit=1))
    return render(
        request,
        "moment.html",
        server=server,
        then=then,
        recorded=recorded,
        entries=entries(recorded, who),
        changes=difference(document(before, who) if before else None, document(then, who)),
        state=document(then, who),
        previous=previous or None,
        following=following[0].position if following else None,
    )
