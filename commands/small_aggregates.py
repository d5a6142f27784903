"""Changes of the small aggregates: create, update, delete, each one conditional commit.

The rules of a kind are pure functions in `domain`, given as `check`: it sees the newest state, again after a lost race,
may refuse, and may add to the change.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import msgspec

from commands.appending import Appending, made_by
from commands.context import CommandContext
from commands.rejections import about
from domain import resources
from domain.errors import Conflict, Invalid, KeyReused, NotFound
from domain.resources import Resource, ResourceChange
from eventlog.envelope import Event, Recorded
from eventlog.log import Conflict as LogConflict

Check = Callable[[Any], dict[str, Any] | None]


class SmallAggregates(Appending):
    """Every change of what is not a server."""

    async def create(
        self,
        kind: str,
        fields: dict[str, Any],
        context: CommandContext,
        *,
        id: str | None = None,
        verb: str = "create",
        visible: bool = True,
        after: int | None = None,
    ) -> Resource:
        """A new resource. An id that a living one has is a conflict; a deleted one's id starts afresh.

        With `after`, what was appended to the aggregate since this version of it is a conflict, too.

        Without an id it gets a new one; with an Idempotency-Key the one that derives from it, so that a repeat finds
        what the first call made.
        """
        with about(kind, id or "", verb):
            return await self._new(kind, fields, context, id, verb, visible, after)

    async def _new(
        self,
        kind: str,
        fields: dict[str, Any],
        context: CommandContext,
        id: str | None,
        verb: str,
        visible: bool,
        after: int | None,
    ) -> Resource:
        derived = id is None and context.idempotency_key is not None
        if id is None:
            id = str(uuid5(NAMESPACE_OID, f"{self.idempotency.seed(context)}:{kind}") if derived else uuid4())
        loaded = await self.last(kind, id)
        version = loaded.commit.version if loaded else 0
        unchanged = after in (None, version)
        if unchanged and (loaded is None or resources.decode(kind, loaded.commit.state).deleted):
            try:
                return await self._append_resource(kind, id, loaded, None, fields, verb, context, version, visible)
            except LogConflict as conflict:
                loaded = conflict.current
        if loaded is not None and context.idempotency_key is not None and made_by(loaded.commit.meta, context):
            first = msgspec.json.decode(loaded.commit.events[0].data, type=ResourceChange)
            if first.patch == msgspec.json.decode(msgspec.json.encode(fields)):
                return resources.decode(kind, loaded.commit.state)
            if derived:
                raise KeyReused(
                    "This Idempotency-Key was used for another request", hint="Use a new key for a new request."
                )
        raise Conflict(f"{kind} {id} already exists", hint="Use another id, or change the one that is there.")

    async def update(
        self,
        kind: str,
        id: str,
        changes: dict[str, Any],
        context: CommandContext,
        *,
        verb: str = "update",
        check: Check | None = None,
        visible: bool = True,
    ) -> Resource:
        """Change fields. `check` sees the newest state (again after a race), may refuse, and may add changes."""
        with about(kind, id, verb):
            return await self._change(kind, id, changes, context, verb, check, visible)

    async def _change(
        self,
        kind: str,
        id: str,
        changes: dict[str, Any],
        context: CommandContext,
        verb: str,
        check: Check | None,
        visible: bool,
    ) -> Resource:
        loaded = await self.last(kind, id)
        for _ in range(self.settings.conflict_retries):
            state = None if loaded is None else resources.decode(kind, loaded.commit.state)
            if state is None or state.deleted:
                raise NotFound(f"{kind} {id} could not be found.")
            more = check(state) if check is not None else None
            patch = changes | (more or {})
            if not patch:
                return state
            try:
                return await self._append_resource(kind, id, loaded, state, patch, verb, context, 0, visible)
            except LogConflict as conflict:
                loaded = conflict.current
        raise Conflict(f"{kind} {id} is changing too fast", hint="Send the request again.")

    async def delete(self, kind: str, id: str, context: CommandContext, *, check: Check | None = None) -> Resource:
        return await self.update(kind, id, {"deleted": True}, context, verb="delete", check=check)

    async def load(self, kind: str, id: str) -> Resource | None:
        """A resource as the log has it now; None when it does not exist or was deleted."""
        loaded = await self.last(kind, id)
        state = None if loaded is None else resources.decode(kind, loaded.commit.state)
        return None if state is None or state.deleted else state

    async def _append_resource(
        self,
        kind: str,
        id: str,
        loaded: Recorded | None,
        state: Resource | None,
        patch: dict[str, Any],
        verb: str,
        context: CommandContext,
        version: int,
        visible: bool,
    ) -> Resource:
        now = datetime.now(UTC)
        change = ResourceChange(patch=patch)
        try:
            after = resources.evolve(kind, state, id, change, now, version=version)
        except resources.InvalidResource as error:
            raise Invalid(str(error), hint="Send fields and types as the API describes them.") from error
        event = Event(type=f"{kind}.{verb}.succeeded", data=msgspec.Raw(msgspec.json.encode(change)))
        encoded = resources.encode(after)
        recorded = await self.append(kind, id, loaded, [event], encoded, context, now)
        if bytes(recorded.commit.state) != encoded:  # it had been decided before, a moment earlier
            after = resources.decode(kind, recorded.commit.state)
        if visible:
            await self._visible(recorded.position)
        return after
