"""Every accepted action ends: the deadlines that the log holds, and one timer for the next of them."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

MAX_SLEEP = 60.0
AGAIN_SECONDS = 1.0

log_ = structlog.get_logger(__name__)


class Deadlines:
    """Calls `due(key)` when a key's time has come. A key has one time: the last that was set."""

    def __init__(self, due: Callable[[str], Awaitable[None]]) -> None:
        self._due = due
        self._times: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def set(self, key: str, at: datetime) -> None:
        if self._times.get(key) == at:
            return
        self._times[key] = at
        heapq.heappush(self._heap, (at, key))
        if self._heap[0] == (at, key):
            self._changed.set()

    def clear(self, key: str) -> None:
        self._times.pop(key, None)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="deadlines")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _call(self, key: str) -> None:
        """The boundary of what a deadline does: a failure never ends the others; this one comes again."""
        try:
            await self._due(key)
        except Exception as error:
            log_.warning("deadline postponed", key=key, error=repr(error))
            self.set(key, datetime.now(UTC) + timedelta(seconds=AGAIN_SECONDS))

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            wait = MAX_SLEEP
            now = datetime.now(UTC)
            while self._heap:
                at, key = self._heap[0]
                if self._times.get(key) != at:
                    heapq.heappop(self._heap)
                    continue
                wait = (at - now).total_seconds()
                if wait > 0:
                    break
                heapq.heappop(self._heap)
                del self._times[key]
                await self._call(key)
            try:
                async with asyncio.timeout(min(max(wait, 0.0), MAX_SLEEP)):
                    await self._changed.wait()
            except TimeoutError:
                continue
