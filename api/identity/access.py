"""Who may use the identity API: admins everything, others what is their own.

What a caller may not see is answered as if it did not exist, so that names and ids of others do not leak.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller
from api.http import caller, moment, services
from domain.errors import Forbidden, NotFound, Rejected
from domain.resources import Resource

DEFAULT_DOMAIN = "default"
DOMAIN = {"id": DEFAULT_DOMAIN, "name": "Default"}
ROLE_NAMES = ("admin", "manager", "member", "reader", "service")


def must_be_admin(request: Request) -> Caller:
    """The caller, who has to be an admin."""
    who = caller(request)
    if not who.is_admin:
        raise Forbidden("You are not authorized to perform the requested action", hint="It needs the role admin")
    return who


async def find(request: Request, kind: str, id_: str) -> Resource:
    """A living user, project or role by id. Raises 404 in Keystone's words."""
    found = await services(request).read.resource(kind, id_)
    if found is None or found.deleted:
        raise NotFound(f"Could not find {kind}: {id_}.")
    return found


def reads_only(why: str) -> Callable[[Request], Awaitable[Response]]:
    """A handler for changes that this deployment does not offer."""

    async def refuse(request: Request) -> Response:
        """Refused: read-only here"""
        must_be_admin(request)
        raise Rejected(why, code=403, reason="read_only")

    return refuse


def expiry(text: str) -> datetime | None:
    """A time in a body (`2026-01-02T03:04:05.000000`, UTC unless it says otherwise); None if it is none."""
    try:
        return moment(text)
    except ValueError:
        return None
