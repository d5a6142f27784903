"""A button was pressed: the same command as POST /v1/commands, given by a form.

Every form carries its own idempotency key, so pressing twice gives the command once. A refusal shows the server's page
with the reason on top; an accepted command leads back to it, where the action is growing already.
"""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.errors import note
from api.http import context, services
from api.ui.buttons import params_of
from api.ui.page import checked_form, page
from api.ui.server import show
from api.v1 import params as parameters
from api.v1.carry import carry_out
from api.v1.scope import visible_server
from domain.errors import Invalid, Rejected


@page
async def give(request: Request) -> Response:
    """Give a command by a form"""
    form = await checked_form(request)
    at, server = services(request), await visible_server(request)
    command = form.get("type", "")
    given = replace(context(request), idempotency_key=form.get("key") or None)
    try:
        if command not in parameters.PARAMS:
            raise Invalid(f"There is no command {command!r}", hint="Reload the page.")
        params = params_of(command, form)
        parameters.check(command, params)
        await carry_out(at, command, params, server, given)
    except Rejected as refusal:
        note(request.scope, refusal)
        request.scope["state"]["asked"] = {"type": command}
        return await show(request, server, refused=(command, refusal))
    return RedirectResponse(f"/ui/servers/{server.id}", status_code=303)
