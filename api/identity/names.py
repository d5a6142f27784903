"""Names of users, projects and roles are unique.

The check and the change are two steps; `NAMES` keeps two requests to one process from passing between them. Two API
processes asked in the same instant could both succeed: ids stay unique, and a name then gives the older one.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from api.listing import living
from domain.errors import Conflict

NAMES = asyncio.Lock()


async def must_be_free(request: Request, kind: str, name: str) -> None:
    if await living(request, kind, name=name):
        raise Conflict(
            f"Conflict occurred attempting to store {kind} - Duplicate entry found with name {name}.",
            hint="Choose another name",
            reason="duplicate_name",
        )
