"""POST /v1/commands: one body form for every command. GET: the catalogue of commands, from the formal machine.

A command that was appended is answered 202 with its request id, the server's new version and the position in the log;
`?dry_run=true` decides and answers 200 without appending. `Idempotency-Key` makes a repeat harmless, `If-Match`
refuses a command that was decided on an older version (412).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, boolean, caller, context, json_object, services
from api.v1 import params as parameters
from api.v1.carry import carry_out
from api.v1.create import created
from api.v1.document import legal_now, must_be_here
from api.v1.scope import find_server
from commands.context import Answer
from domain.errors import Invalid, NotImplementedHere
from domain.machine import MACHINE, CommandRule
from domain.states import TASK_STATES, VM_STATES, status

FIELDS = frozenset({"type", "server_id", "params"})


async def give(request: Request) -> Response:
    """Give a command to a server"""
    command, server_id, params = _read(await json_object(request))
    dry_run = boolean(request.query_params.get("dry_run", "false"))
    given = context(request, dry_run=dry_run)
    at, who = services(request), caller(request)
    if command == "create":
        if dry_run:
            raise NotImplementedHere(
                "create can not be tried", hint="Send it without dry_run; delete the server after."
            )
        return await _create(request, params)
    if not server_id:
        raise Invalid(
            "server_id is missing", code=422, reason="server_id", hint="Name the server that the command is for."
        )
    server = await find_server(request, server_id)
    answer = await carry_out(at, command, params, server, given)
    if not dry_run:
        return _accepted(answer)
    after = answer.server
    operation = after.operation
    return Json(
        {
            "dry_run": True,
            "server_id": server_id,
            "changed": answer.changed,
            "before": _states(server.vm_state, server.task_state),
            "after": _states(after.vm_state, after.task_state),
            "first_step": operation.step if operation else None,
            "deadline": operation.deadline if operation else None,
            "commands": legal_now(at, server, who),
        }
    )


async def _create(request: Request, params: dict[str, Any]) -> Response:
    return _accepted(await created(request, params))


def _read(body: dict[str, Any]) -> tuple[str, str | None, dict[str, Any]]:
    if unknown := sorted(set(body) - FIELDS):
        raise Invalid(
            f"Unknown: {', '.join(unknown)}", code=422, reason="body", hint="Send type, server_id and params."
        )
    command, server_id, params = body.get("type"), body.get("server_id"), body.get("params")
    if not isinstance(command, str) or command not in MACHINE.commands or MACHINE.rule(command).internal:
        raise Invalid(
            f"There is no command {command!r}", code=422, reason="command", hint="GET /v1/commands lists all of them."
        )
    if params is not None and not isinstance(params, dict):
        raise Invalid("params has to be an object", code=422, reason="params")
    if server_id is not None and not isinstance(server_id, str):
        raise Invalid("server_id has to be a text", code=422, reason="server_id")
    must_be_here(command)
    parameters.check(command, params or {})
    return command, server_id, params or {}


def _accepted(answer: Answer) -> Response:
    body = {
        "request_id": answer.request_id,
        "server_id": answer.server_id,
        "version": answer.version,
        "position": answer.position,
        "changed": answer.changed,
        "links": {"server": f"/v1/servers/{answer.server_id}", "history": f"/v1/servers/{answer.server_id}/history"},
    }
    headers = {"ETag": f'"{answer.version}"', "X-Log-Position": str(answer.position)}
    return Json(body, status_code=202, headers=headers)


def _states(vm_state: str, task_state: str | None) -> dict[str, str | None]:
    return {"status": status(vm_state, task_state), "vm_state": vm_state, "task_state": task_state}


async def catalogue(request: Request) -> Response:
    """List every command, its parameters, and where it is legal"""
    return Json({"commands": _catalogue()})


@cache
def _catalogue() -> tuple[dict[str, Any], ...]:
    return tuple(described(rule) for rule in MACHINE.commands.values() if not rule.internal)


def described(rule: CommandRule) -> dict[str, Any]:
    """One command for a reader who has to decide whether and how to give it."""
    guard = rule.guard
    return {
        "type": rule.id,
        "title": rule.title,
        "note": rule.why,
        "action": rule.action,
        "policy": rule.policy,
        "available": rule.id in parameters.PARAMS,
        "params": parameters.PARAMS.get(rule.id),
        "legal": {
            "vm_states": [] if rule.creates else [name for name in VM_STATES if name in guard.vm_states],
            "task_states": [] if rule.creates else [name for name in (None, *TASK_STATES) if name in guard.task_states],
            "launched": guard.launched,
            "refused_while_locked": guard.lock_checked,
            "host": guard.host,
            "creates": rule.creates,
            "removed": not rule.exists,
        },
        "sets_task_state": list(rule.task_states),
        "outcomes": {phase: sorted(states) for phase, states in rule.outcomes.items()},
        "deadline_seconds": rule.deadline_seconds,
    }
