"""The formal machine: its picture, and the matrix of commands and vm_states, with one server's column lit."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.http import caller, services
from api.ui.page import page, render
from api.v1.document import legal_now
from api.v1.scope import find_server
from domain.machine import MACHINE, CommandRule
from domain.machine.rule import ANY_TASK_STATE, NO_TASK
from domain.states import VM_STATES, status


@page
async def machine(request: Request) -> Response:
    """Show the formal machine"""
    at, who = services(request), caller(request)
    server_id = request.query_params.get("server")
    server = await find_server(request, server_id) if server_id else None
    # What creates a server is legal in none of its states: the diagram has it.
    rules = [rule for rule in MACHINE.commands.values() if not rule.internal and not rule.creates]
    return render(
        request,
        "machine.html",
        server=server,
        legal=legal_now(at, server, who) if server else [],
        vm_states=[(name, status(name, None)) for name in VM_STATES],
        rows=[(rule, [mark(rule, vm_state) for vm_state in VM_STATES]) for rule in rules],
    )


def mark(rule: CommandRule, vm_state: str) -> str:
    """`idle`: legal when no task is in progress; `any`: always; `some`: while some tasks are; empty: refused."""
    if not rule.exists or vm_state not in rule.guard.vm_states:
        return ""
    if rule.guard.task_states == NO_TASK:
        return "idle"
    return "any" if rule.guard.task_states == ANY_TASK_STATE else "some"
