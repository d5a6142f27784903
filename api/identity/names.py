"""Names of users, projects and roles are unique, also when several API processes are asked at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from api.http import context, services
from api.listing import living
from commands.handler import Commands
from commands.names import let_go, unique_name
from domain.names import duplicate


@asynccontextmanager
async def named(
    request: Request, kind: str, name: str | None, holder: str, before: str | None = None
) -> AsyncIterator[Commands]:
    """The commands with which a resource gets this name in the block; `before` is the one that it had.

    Without a name, or with the one that it has, nothing is held. Raises `Conflict` when another one has it.
    """
    commands, who = services(request).commands, context(request)
    if name is None or name == before:
        yield commands
        return
    # Those of the first start have their names without having taken them.
    if any(one.id != holder for one in await living(request, kind, name=name)):
        raise duplicate(kind, name)
    async with unique_name(commands, kind, name, holder, who) as mine:
        yield mine
    if before is not None:
        await let_go(commands, kind, before, holder, who)


async def forget(request: Request, kind: str, name: str, holder: str) -> None:
    """A resource that is deleted has its name no more."""
    await let_go(services(request).commands, kind, name, holder, context(request))
