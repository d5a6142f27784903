"""The log for code that is not asynchronous: an event loop on a thread of its own, and calls that wait for it.

For tools, replays and the `eventsourcing` library. Any number of threads may call at once; calls that are waiting when
the log is closed, and later ones, raise LogUnavailable.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from eventlog.errors import LogUnavailable
from eventlog.log import EventLog

T = TypeVar("T")

# Longer than any single call of the log takes to succeed or to fail; a bound against waiting for ever.
CALL_SECONDS = 120.0
STOP_SECONDS = 10.0


class LogThread:
    """An open log whose loop runs on a thread until `close`. Raises what `EventLog.open` raises."""

    def __init__(self, servers: str | list[str], **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event log", daemon=True)
        self._thread.start()
        self._closed = False
        try:
            self.log: EventLog = self.call(EventLog.open(servers, **options))
        except BaseException:
            self.close()
            raise

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result."""
        if self._closed:
            coroutine.close()
            raise LogUnavailable("the log was closed")
        try:
            return self._run(coroutine)
        except CancelledError:
            raise LogUnavailable("the log was closed meanwhile", ambiguous=True) from None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_SECONDS)

    async def _end(self) -> None:
        if hasattr(self, "log"):
            await self.log.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=STOP_SECONDS)
        await self._loop.shutdown_asyncgens()
