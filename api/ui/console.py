"""Open a console of a server: a fresh token, and on to the page that it opens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.console.grants import SUPPORTED, grant
from api.errors import note
from api.http import caller, services
from api.ui.page import checked_form, page
from api.ui.server import show
from api.v1.document import permitted, refusal
from api.v1.scope import visible_server
from domain.errors import Forbidden, Invalid, Rejected


@page
async def console(request: Request) -> Response:
    """Open a console of a server"""
    form = await checked_form(request)
    at, who, server = services(request), caller(request), await visible_server(request)
    kind = form.get("kind", "")
    try:
        if kind not in SUPPORTED:
            raise Invalid(f"There is no console {kind!r}", hint="Reload the page.")
        if not permitted("remote-console", server, who):
            raise Forbidden("Your roles do not open consoles", hint="Ask for the role member.")
        if (why := refusal(at, "remote-console", server, who)) is not None:
            raise why
        opened = await grant(at, server, kind, who.user_id)
    except Rejected as refused:
        note(request.scope, refused)
        return await show(request, server, refused=("remote-console", refused))
    return RedirectResponse(opened.page(), status_code=303)
