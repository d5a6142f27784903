"""Tells when an action has ended, by reading the log beside the control plane.

Polling the API for the end of an action would spend the CPU that is being measured; one more reader of the log
costs nats-server a few microseconds per commit. An action is done when the commit that ends it is in the log, which is
a moment before the read model shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import perf_counter

from cli.bench.target import Target
from cli.errors import Stop
from eventlog.feed import Feed, FeedBroken
from eventlog.log import EventLog

DONE_SECONDS = 60.0
BATCH = 256
_CREATED = b'"server.create.succeeded"'
_ENDS = (b'.succeeded"', b'.failed"', b'.reverted"', b'.cancelled"')


class Watcher:
    """Made by `watching`."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._waiting: dict[str, asyncio.Future[float]] = {}
        # A creation can end before its client has read the answer that tells the new server's id.
        self._created: dict[str, float] = {}

    @staticmethod
    def now() -> float:
        """The clock of its moments."""
        return perf_counter()

    def expect(self, server_id: str) -> asyncio.Future[float]:
        """The moment (of `perf_counter`) at which the next action of a server ends. Ask before it is sent."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[server_id] = future
        return future

    def expect_created(self, server_id: str) -> asyncio.Future[float]:
        """The same for a creation, asked for after its answer."""
        future = self.expect(server_id)
        if server_id in self._created:
            del self._waiting[server_id]
            future.set_result(self._created.pop(server_id))
        return future

    async def ended(self, future: asyncio.Future[float]) -> float:
        """The moment at which an action has ended, never before now: its client has read the answer to it first.

        Raises Stop when the action failed or does not end.
        """
        now = perf_counter()
        done, _ = await asyncio.wait({future}, timeout=DONE_SECONDS)
        if not done:
            raise Stop(f"an action did not end within {DONE_SECONDS:g} s")
        return max(now, future.result())

    def seen(self, subject: str, data: bytes) -> None:
        """One message of the log. The server's own words can hold no event type: JSON escapes their quotes."""
        if not any(end in data for end in _ENDS):
            return
        server_id = subject.rpartition(".")[2]
        future = self._waiting.pop(server_id, None)
        if future is None:
            if _CREATED in data:
                self._created[server_id] = perf_counter()
        elif future.done():
            return
        elif _ENDS[0] in data:
            future.set_result(perf_counter())
        else:
            future.set_exception(Stop(f"an action failed: {data[:2000].decode(errors='replace')}"))

    async def follow(self, feed: Feed) -> None:
        try:
            while True:
                for message in await feed.batch(BATCH):
                    self.seen(message.subject, message.data)
        except FeedBroken as error:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Stop(f"the log can not be read any more: {error}"))


@asynccontextmanager
async def watching(target: Target) -> AsyncIterator[Watcher]:
    """A watcher of everything that happens to servers from now on."""
    log = await EventLog.open(target.nats_url, user=target.nats_user, password=target.nats_password, name="bench")
    try:
        watcher = Watcher(log)
        async with log.feed(log.subject("server"), after=await log.last_position()) as feed:
            following = asyncio.create_task(watcher.follow(feed), name="bench watcher")
            try:
                yield watcher
            finally:
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following
    finally:
        await log.close()
