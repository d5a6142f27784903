"""GET /v1/servers/{id}/explain: why it is in ERROR, what it waits for, why a command is refused, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, caller, services
from api.v1.document import legal_now, permitted, refusal
from api.v1.history import action_document, rejection
from api.v1.reasons import Reasons, reasons, why_refused
from api.v1.scope import redacted, rejections_of, visible_server
from domain.errors import Invalid
from domain.machine import MACHINE
from domain.server import Server
from domain.states import status

if TYPE_CHECKING:
    from api.auth import Caller
    from api.services import Services

ACTIONS_LOOKED_AT = 20
REJECTIONS = 5


async def explain(request: Request) -> Response:
    """Explain the state of a server

    `command` asks why that command could, or could not, be given now.
    """
    at, who = services(request), caller(request)
    server = await visible_server(request)
    found = await reasons_for(at, who, server)
    body: dict[str, Any] = {
        "server_id": server.id,
        "name": server.name,
        "status": status(server.vm_state, server.task_state),
        "vm_state": server.vm_state,
        "task_state": server.task_state,
        "kind": found.kind,
        "summary": found.summary,
        "detail": found.detail if who.is_admin else "",
        "fault": redacted(msgspec.to_builtins(server.fault), operator=who.is_admin),
        "action": None if found.action is None else action_document(found.action, who),
        "step": None if found.step is None else redacted(msgspec.to_builtins(found.step), operator=who.is_admin),
        "evidence": found.evidence,
        "advice": found.advice,
        "commands": found.commands,
        "rejections": [rejection(one) for one in found.refused],
    }
    command = request.query_params.get("command")
    if command is not None:
        if command not in MACHINE.commands or MACHINE.rule(command).internal:
            raise Invalid(f"There is no command {command!r}", hint="GET /v1/commands lists all of them.")
        body["command"] = why_refused(command, refusal(at, command, server, who), permitted(command, server, who))
    return Json(body)


async def reasons_for(at: Services, who: Caller, server: Server) -> Reasons:
    """The reasons for a server's state as the read model has it."""
    actions = await at.read.actions(server.id, limit=ACTIONS_LOOKED_AT, steps=True)
    rejections = await rejections_of(at, who, server, REJECTIONS)
    return reasons(server, actions, rejections, legal_now(at, server, who))
