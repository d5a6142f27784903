"""Follow the log for as long as the process lives.

A follower hands every commit after a position to its handler, in order, in batches, each exactly once per follower:
the position moves only after the handler returned. It survives broken connections and restarts of nats-server by
opening a new feed after the last position handled. A handler that raises ends it: the error is in `failed`, and the
next follower starts again where this one stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from eventlog.envelope import Recorded
from eventlog.errors import LogUnavailable
from eventlog.feed import FeedBroken
from eventlog.mux import NoAnswer

if TYPE_CHECKING:
    from eventlog.log import EventLog

Handler = Callable[[list[Recorded]], Awaitable[None]]

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
STOP_SECONDS = 30.0


class _HandlerRaised(Exception):
    """Carries the handler's error past the errors that a new feed would mend."""


class Follower:
    """A running task that feeds a handler. Made by `EventLog.follow`."""

    def __init__(self, log: EventLog, after: int, handler: Handler, kind: str | None, batch: int) -> None:
        self._log = log
        self._handler = handler
        self._kind = kind
        self._batch = batch
        self._pending = 0
        self.position = after
        # Done with None after stop(), with the handler's error when it failed.
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"follow log after {after}")
        self._task.add_done_callback(self._finished)

    def lag(self) -> int:
        """How many commits are known to wait for the handler."""
        return self._pending

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
                await self._follow_one_feed()
            except (FeedBroken, LogUnavailable, NoAnswer):
                pause = FIRST_PAUSE_SECONDS if self.position > handled else min(2 * pause, LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(pause)

    async def _follow_one_feed(self) -> None:
        async with self._log.feed(self._log.subject(self._kind), after=self.position) as feed:
            self._pending = feed.waiting
            while True:
                messages = await feed.batch(self._batch)
                self._pending = feed.waiting + len(messages)
                commits = [self._log.decode(message) for message in messages]
                try:
                    await self._handler(commits)
                except Exception as error:
                    raise _HandlerRaised from error
                self.position = messages[-1].position
                self._pending = feed.waiting
