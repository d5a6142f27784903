"""Taking and letting go of names that only one resource of its kind may have (`domain.names`), in whatever process.

    async with unique_name(commands, "user", "alice", user_id, context) as still_mine:
        await still_mine.create("user", {"name": "alice"}, context, id=user_id)

The commands of the block are refused when it lasts so long that another request may have taken the name over.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from commands.appending import step_aside
from commands.context import CommandContext
from commands.handler import Commands
from domain import names
from domain.errors import Conflict, Rejected
from domain.resources import Name, decode

KIND = "name"


@asynccontextmanager
async def unique_name(
    commands: Commands, kind: str, name: str, holder: str, context: CommandContext
) -> AsyncIterator[Commands]:
    """Hold a name for a resource that gets it in the block. Raises `Conflict` if another one has it."""
    began = time.monotonic()
    await _take(commands, kind, name, holder, context)

    async def in_time() -> None:
        if time.monotonic() - began > names.GRACE_SECONDS / 2:
            raise Conflict(f"The name {name} was held for too long", hint="Send the request again.")

    try:
        yield commands.fenced(in_time)
    except Rejected:
        await let_go(commands, kind, name, holder, context)
        raise


async def let_go(commands: Commands, kind: str, name: str, holder: str, context: CommandContext) -> None:
    """Make a name free again that a resource had. If that fails, the name is free after the grace."""

    def check(now: Name) -> dict[str, Any]:
        return names.let_go(now, holder)

    with suppress(Rejected):
        await commands.update(
            KIND, names.name_id(kind, name), {}, _own(context), verb="let_go", check=check, visible=False
        )


async def _take(commands: Commands, kind: str, name: str, holder: str, context: CommandContext) -> None:
    id_ = names.name_id(kind, name)
    for attempt in range(commands.settings.conflict_retries):
        await step_aside(attempt)
        newest = await commands.last(KIND, id_)
        if newest is None:
            fields = {"name": name, "kind": kind, "holder": holder}
            with suppress(Conflict):  # another request was quicker
                await commands.create(KIND, fields, _own(context), id=id_, verb="take", visible=False)
                return
            continue
        state = cast(Name, decode(KIND, newest.commit.state))
        has = await commands.load(kind, state.holder) if state.holder else None
        change = names.take(state, holder, datetime.now(UTC), held=has is not None and has.name == name)
        if await _changed(commands, id_, state.version, change, context):
            return
    raise names.duplicate(kind, name)


async def _changed(commands: Commands, id_: str, version: int, change: dict[str, Any], context: CommandContext) -> bool:
    def check(now: Name) -> dict[str, Any]:
        if now.version != version:
            raise Conflict("The name was taken meanwhile", hint="Choose another name.")
        return change

    try:
        await commands.update(KIND, id_, {}, _own(context), verb="take", check=check, visible=False)
    except Conflict:
        return False
    return True


def _own(context: CommandContext) -> CommandContext:
    """The caller's context, without what belongs to the resource itself."""
    return replace(context, idempotency_key=None, if_match=None)
