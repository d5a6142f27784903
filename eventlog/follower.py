"""Follow the log for as long as the process lives.

A follower hands every commit after a position to its handler, in order, in batches, each exactly once per follower:
the position moves only after the handler returned. It reads the past from the stream and the present from the process's
`tail`, and survives broken connections and restarts of nats-server by going on after the last position handled. A
handler that raises ends it: the error is in `failed`, and the next follower starts again where this one stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from eventlog.envelope import Recorded
from eventlog.errors import LogUnavailable
from eventlog.tail import Inbox, InboxFull

if TYPE_CHECKING:
    from eventlog.log import EventLog

Handler = Callable[[list[Recorded]], Awaitable[None]]
Turn = Callable[[], Awaitable[None]]

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
STOP_SECONDS = 30.0


class _HandlerRaised(Exception):
    """Carries the handler's error past the errors that another try would mend."""


class Follower:
    """A running task that feeds a handler. Made by `EventLog.follow`."""

    def __init__(
        self,
        log: EventLog,
        after: int,
        handler: Handler,
        kind: str | None,
        batch: int,
        gather: float,
        turn: Turn | None = None,
    ) -> None:
        self._log = log
        self._handler = handler
        self._kind = kind
        self._batch = batch
        self._gather = gather
        self._turn = turn
        self._hurry = asyncio.Event()
        self._inbox: Inbox | None = None
        self._in_hand = 0
        self._behind = 0  # read up to here from the stream before taking from the inbox
        self.position = after
        # Done with None after stop(), with the handler's error when it failed.
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"follow log after {after}")
        self._task.add_done_callback(self._finished)

    def lag(self) -> int:
        """How many commits wait for the handler, at most: while it reads the past, other kinds count too."""
        present = len(self._inbox) if self._inbox is not None else 0
        return present + (self._behind - self.position if self._behind > self.position else self._in_hand)

    def hurry(self) -> None:
        """Somebody waits for what the handler does: do not gather."""
        self._hurry.set()

    async def stop(self) -> None:
        """Stop after the batch in hand was cancelled; what it was handling is not counted as handled."""
        self._task.cancel()
        await asyncio.wait([self._task], timeout=STOP_SECONDS)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if self.failed.done():
            return
        error = None if task.cancelled() else task.exception()
        if isinstance(error, _HandlerRaised):
            error = error.__cause__
        if error is None:
            self.failed.set_result(None)
        else:
            self.failed.set_exception(error)

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            handled = self.position
            try:
                await self._follow()
            except InboxFull:
                continue
            except LogUnavailable:
                pause = FIRST_PAUSE_SECONDS if self.position > handled else min(2 * pause, LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(pause)

    async def _follow(self) -> None:
        inbox = self._inbox = await self._log.tail.inbox(self._kind)
        try:
            self._behind = inbox.start
            past = self._log.scan(self.position, kind=self._kind, upto=inbox.start, batch=self._batch)
            async with aclosing(past):
                async for commits in past:
                    await self._hand_over(commits)
            self._behind = 0
            while True:
                await inbox.filled()
                if self._gather and not self._hurry.is_set():
                    await _at_most(self._gather, self._hurry)
                self._hurry.clear()
                if self._turn is not None:
                    await self._turn()
                await self._hand_over_all(inbox)
        finally:
            self._log.tail.give_back(inbox)

    async def _hand_over_all(self, inbox: Inbox) -> None:
        """What the inbox holds now, in batches, between which others have their turn of the event loop."""
        left = len(inbox)
        while left > 0:
            commits = inbox.take(min(left, self._batch))
            left -= len(commits)
            await self._hand_over(commits)
            if not commits:
                return
            if left > 0:
                await asyncio.sleep(0)

    async def _hand_over(self, commits: list[Recorded]) -> None:
        fresh = [one for one in commits if one.position > self.position]
        if not fresh:
            return
        self._in_hand = len(fresh)
        try:
            await self._handler(fresh)
        except Exception as error:
            raise _HandlerRaised from error
        self.position = fresh[-1].position
        self._in_hand = 0


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
