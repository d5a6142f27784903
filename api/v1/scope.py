"""What a caller may see: its own project's servers and events; administrators see everything.

Another project's server is answered exactly like one that never existed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request

from api.http import caller, services
from domain.errors import Invalid, NotFound
from domain.policy import allowed
from domain.server import Server
from eventlog.envelope import Commit

if TYPE_CHECKING:
    from api.auth import Caller
    from api.services import Services
    from projections.rows import RejectionRow

SECRETS = frozenset(
    {"password", "admin_password", "password_hash", "secret", "secret_hash", "user_data", "private_key", "personality"}
)
"""Names of values that no answer shows, wherever they stand."""

OPERATOR_ONLY = frozenset({"traceback"})
PAGE_LIMIT = 1000
READER = "PROJECT_READER_OR_ADMIN"
NO_PROJECT = ""
"""Nothing belongs to it."""


class _Owner(msgspec.Struct):
    project_id: str | None = None


_owner = msgspec.json.Decoder(_Owner).decode


def sees(caller: Caller, project_id: str | None) -> bool:
    """Whether the caller may read what belongs to a project (null: to the whole cloud)."""
    return allowed(READER, caller.actor.roles, caller.actor.project_id, project_id)


def listed_project(caller: Caller) -> str | None:
    """The project whose things a list shows: null for all of them, `NO_PROJECT` if the caller may read none."""
    if caller.is_admin:
        return None
    return caller.project_id if caller.project_id and sees(caller, caller.project_id) else NO_PROJECT


def owner_of(commit: Commit) -> str | None:
    """The project that the changed thing belongs to."""
    return _owner(commit.state).project_id


async def visible_server(request: Request) -> Server:
    """The server of the path, as the read model has it. Raises 404 for another project's."""
    return await find_server(request, request.path_params["id"])


async def find_server(request: Request, server_id: str) -> Server:
    server = await services(request).server(server_id)
    if server is None or not sees(caller(request), server.project_id):
        raise NotFound(
            f"Instance {server_id} could not be found.",
            hint="Check the id, and that you are signed in to its project: GET /v1/servers lists those you can see.",
        )
    return server


async def rejections_of(at: Services, who: Caller, server: Server, limit: int) -> list[RejectionRow]:
    """Refused commands on a server, newest first: those of its own project, all of them for an administrator.

    Whoever guesses the id of a server that is not theirs writes nothing into what its owner reads.
    """
    return await at.read.rejections(
        aggregate_id=server.id, project_id=None if who.is_admin else server.project_id, limit=limit
    )


def redacted(value: Any, *, operator: bool) -> Any:
    """Plain JSON data as the caller may see it: no secrets; details of faults for operators only."""
    if isinstance(value, dict):
        return {
            key: "(redacted)" if key in SECRETS and item else redacted(item, operator=operator)
            for key, item in value.items()
            if operator or not (key in OPERATOR_ONLY or (key == "details" and isinstance(item, str)))
        }
    if isinstance(value, list | tuple):
        return [redacted(item, operator=operator) for item in value]
    return value


def only_known(request: Request, *known: str) -> None:
    """Refuse a query parameter that would be left out silently: a filter that was meant but misspelt shows too much."""
    if unknown := sorted(set(request.query_params) - set(known)):
        raise Invalid(
            f"Unknown query parameters: {', '.join(unknown)}",
            hint=f"Known are {', '.join(known)}.",
            reason="query",
        )


def whole_number(request: Request, name: str, default: int, *, most: int, least: int = 0) -> int:
    """A query parameter that counts something. Raises 400 for anything but least..most."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and least <= int(text) <= most):
        raise Invalid(f"{name} has to be a number from {least} to {most}, not {text!r}")
    return int(text)
