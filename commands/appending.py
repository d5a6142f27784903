"""What every command does at its end: one conditional append to the log, and the wait until the read model shows it.

Nothing else in chronova appends to the log. Somebody who may lose the right to (a conductor) uses a fenced copy.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from hashlib import sha256

from commands.at_hand import AtHand
from commands.context import CommandContext
from commands.hosts import HostWatch
from commands.idempotency import Idempotency
from commands.precedence import Precedence
from commands.settings import CommandSettings
from domain.errors import Unavailable
from eventlog.envelope import Event, Meta, Recorded
from eventlog.log import EventLog, LogUnavailable

Fence = Callable[[], Awaitable[None]]
CROWD = 4  # lost races from which on a command has many competitors
CROWD_PAUSE_SECONDS = 0.02


class Appending:
    """The log as commands use it."""

    def __init__(
        self,
        log: EventLog,
        *,
        visible: Callable[[int], Awaitable[None]],
        settings: CommandSettings,
        hosts: HostWatch,
        fence: Fence | None = None,
        at_hand: AtHand | None = None,
        precedence: Precedence | None = None,
    ) -> None:
        self.log = log
        self.settings = settings
        self.hosts = hosts
        self.idempotency = Idempotency(log, settings.key_wait)
        self._visible = visible
        self._fence = fence
        self._at_hand = at_hand or AtHand()
        self.precedence = precedence or Precedence()

    async def last(self, kind: str, id: str) -> Recorded | None:
        """The newest commit of an aggregate. Raises `Unavailable`."""
        try:
            found = await self.log.last(kind, id)
        except ValueError:
            return None  # no subject token: nothing can have this id
        except LogUnavailable as error:
            raise unavailable(error, self.log) from error
        if kind == "server" and found is not None:
            self._at_hand.keep(found)
        return found

    async def append(
        self,
        kind: str,
        id: str,
        after: Recorded | None,
        events: list[Event],
        state: bytes,
        context: CommandContext,
        now: datetime,
    ) -> Recorded:
        """Append to an aggregate whose newest commit is `after`. Raises `eventlog.Conflict` and `Unavailable`.

        What the control plane decides by itself may be there already, appended under the same commit id by an earlier
        try or by another conductor: then that commit is returned, and its state is what counts.
        """
        if self._fence is not None:
            await self._fence()
        meta = Meta(
            actor=context.actor,
            request_id=context.request_id,
            occurred_at=now,
            correlation_id=context.request_id,
            causation_id=context.causation_id,
            idempotency_key=context.idempotency_key,
        )
        try:
            cid = _commit_id(kind, id, after, events, context) if context.causation_id else None
            recorded = await self.log.append(kind, id, expected=after, events=events, state=state, meta=meta, cid=cid)
        except LogUnavailable as error:
            raise unavailable(error, self.log) from error
        if kind == "server":
            self._at_hand.keep(recorded)
        return recorded


def _commit_id(kind: str, id: str, after: Recorded | None, events: list[Event], context: CommandContext) -> str:
    """The id that the same decision, on the same state and for the same cause, has whoever makes it and whenever.

    One cause may change a small aggregate in several ways, such as two ports that want one address: what is changed is
    part of the decision. What a server's events say has times in it, which a repeat has not; their types tell it.
    """
    position = after.position if after is not None else 0
    decision = [kind, id, str(position), context.request_id, context.causation_id, *(event.type for event in events)]
    if kind != "server":
        decision += (bytes(event.data).decode() for event in events)
    return sha256("\n".join(decision).encode()).hexdigest()[:32]


def made_by(meta: Meta, context: CommandContext) -> bool:
    """Whether a commit was made under the context's key: by the same user in the same project."""
    made, actor = meta.actor, context.actor
    return (meta.idempotency_key, made.user_id, made.project_id) == (
        context.idempotency_key,
        actor.user_id,
        actor.project_id,
    )


async def step_aside(attempts: int) -> None:
    """After some lost races, a tiny pause of random length, so that many writers of one aggregate are out of step."""
    if attempts >= CROWD:
        await asyncio.sleep(random.uniform(0, CROWD_PAUSE_SECONDS))


def unavailable(error: LogUnavailable, log: EventLog) -> Unavailable:
    if log.disk_is_full():
        message = "The disk of the data directory is full, so the event log takes nothing"
        return Unavailable(message, hint="Make room on it, or have its operator do so, and look before you try again.")
    hint = (
        "It may have been stored: look at the server before sending it again." if error.ambiguous else "Try again soon."
    )
    return Unavailable("The event log does not answer", hint=hint)
