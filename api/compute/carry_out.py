"""Giving a command on a server to the command side, and asking beforehand whether the machine would refuse it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from api.compute.call import Call
from commands.context import Answer
from commands.handler import BUSY
from domain.decide import Context, refuse
from domain.errors import Conflict, Rejected
from domain.server import Server


async def carry_out(call: Call, command: str, server_id: str, params: dict[str, Any] | None = None) -> Answer:
    """Carry out a command of the machine. Raises `domain.errors.Rejected`."""
    return await call.services.commands.server(command, server_id, params or {}, call.context)


def must_be_legal(call: Call, command: str, server: Server) -> None:
    """Raise the machine's refusal, if it has one, before anything that the machine does not know of is checked."""
    try:
        _refuse(call, command, server)
    except Conflict as conflict:
        if conflict.reason != BUSY:  # for that the command side waits a little
            raise


@contextmanager
def state_comes_first(call: Call, command: str, server: Server) -> Iterator[None]:
    """What is raised inside, about things that a request names, is raised only if the server would take the command.

    Nova looks at a server's lock and state before it looks at the rest.
    """
    try:
        yield
    except Rejected:
        _refuse(call, command, server)
        raise


def _refuse(call: Call, command: str, server: Server) -> None:
    actor = call.caller.actor
    context = Context(datetime.now(UTC), call.request_id, actor.user_id, actor.project_id, call.is_admin)
    refuse(server, command, context)
