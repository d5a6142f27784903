"""A server as /v1 shows it: the state as it is in the log, without secrets, with what can be done now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from api.v1.params import PARAMS
from api.v1.scope import redacted
from domain.decide import ASKED_BESIDES, Context, host_must_answer, must_be_possible, must_have_its_host, refuse
from domain.errors import NotImplementedHere, Rejected
from domain.machine import MACHINE
from domain.policy import allowed
from domain.server import Server
from domain.states import status
from domain.workflows import WORKFLOWS

if TYPE_CHECKING:
    from api.auth import Caller
    from api.services import Services


ELSEWHERE = {
    "get-console-output": "POST /compute/v2.1/servers/{id}/action",
    "remote-console": "POST /compute/v2.1/servers/{id}/remote-consoles",
    "swap-volume": "PUT /compute/v2.1/servers/{id}/os-volume_attachments/{volume_id}",
    "update-volume-attachment": "PUT /compute/v2.1/servers/{id}/os-volume_attachments/{volume_id}",
}
"""What only the compute API carries out, and where."""
NOT_HERE = "GET /v1/commands shows what is, and the network API gives a server addresses."


def document(server: Server, caller: Caller) -> dict[str, Any]:
    """Every field of the server, with its defaults, and `status`."""
    fields = {field.name: getattr(server, field.name) for field in msgspec.structs.fields(server)}
    plain: dict[str, Any] = msgspec.to_builtins(fields)
    shown: dict[str, Any] = redacted(plain, operator=caller.is_admin)
    return {"status": status(server.vm_state, server.task_state), "locked": server.locked} | shown


def must_be_here(command: str) -> None:
    """Refuse, with what to do instead, a command that POST /v1/commands does not carry out."""
    if command in PARAMS:
        return
    if command in ELSEWHERE:
        hint = f"Use the compute API: {ELSEWHERE[command]}."
        raise NotImplementedHere(f"{command} can not be given here.", hint=hint)
    must_be_possible(command)
    raise NotImplementedHere(f"{command} is not carried out here.", hint=NOT_HERE, reason="not_carried_out")


def permitted(command: str, server: Server, caller: Caller) -> bool:
    """Whether the caller's roles allow the command at all, in whatever state."""
    rule = MACHINE.rule(command)
    if rule.internal or rule.creates or not rule.exists:
        return False
    return allowed(rule.policy, caller.actor.roles, caller.actor.project_id, server.project_id)


def refusal(services: Services, command: str, server: Server, caller: Caller) -> Rejected | None:
    """Why the command would be refused in the server's state now; None when it is legal."""
    context = Context(
        now=datetime.now(UTC),
        request_id="",
        user_id=caller.user_id,
        project_id=caller.project_id,
        is_admin=caller.is_admin,
        host_up=server.host is None or services.commands.hosts.is_up(server.host),
        host_lacks=services.commands.hosts.lacks(server.host),
    )
    try:
        if command not in PARAMS and command not in ELSEWHERE:
            must_be_here(command)
        refuse(server, command, context)
        if command in ASKED_BESIDES:
            ASKED_BESIDES[command](server, context)
        if command in WORKFLOWS:
            as_usual = {"offload": services.commands.settings.shelved_offload}
            must_have_its_host(server, command, as_usual, context)
            host_must_answer(server, command, context)
    except Rejected as rejected:
        return rejected
    return None


def possible(services: Services, command: str, server: Server, caller: Caller) -> bool:
    """Whether this caller could give this server the command at this moment, here or with the compute API."""
    return permitted(command, server, caller) and refusal(services, command, server, caller) is None


def legal_now(services: Services, server: Server, caller: Caller) -> list[str]:
    """The commands that this caller could give this server at this moment with POST /v1/commands."""
    return [
        command for command in MACHINE.commands if command in PARAMS and possible(services, command, server, caller)
    ]
