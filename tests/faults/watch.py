"""The log as the test sees it grow: every server's commits in memory, and waiting for what has to show in them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from cli import keys
from domain.server import Server, ServerEvent, decode_event, decode_server
from eventlog.envelope import Recorded
from eventlog.log import EventLog, LogUnavailable
from tests.faults.deployment import Deployment

SETTLE_SECONDS = 120.0
PAUSE_SECONDS = 0.1


async def _connected(urls: list[str], password: str) -> EventLog:
    """The log, as soon as it answers: NATS may just have been started again."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while True:
            try:
                return await EventLog.open(urls, user="control", password=password)
            except LogUnavailable:
                await asyncio.sleep(PAUSE_SECONDS)


class Watch:
    """Made by `open`, which reads what is there. Survives whatever happens to NATS, as any follower of the log does."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.commits: dict[str, list[Recorded]] = {}
        self.servers: dict[str, Server] = {}
        self.position = 0
        self.on_sight: Callable[[Server], None] = lambda server: None
        self._grown = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, deployment: Deployment) -> AsyncIterator[Watch]:
        urls, password = deployment.note["nats"], keys.secret(deployment.data, "nats-control")
        log = await _connected(urls, password)
        watch = cls(log)
        follower = await log.follow(0, watch._take, kind="server")
        try:
            await watch.caught_up()
            yield watch
        finally:
            await follower.stop()
            with contextlib.suppress(OSError):  # nats-py flushes a connection that a killed server may have broken
                await log.close()

    async def _take(self, batch: list[Recorded]) -> None:
        for one in batch:
            server = decode_server(one.commit.state)
            self.commits.setdefault(server.id, []).append(one)
            self.servers[server.id] = server
            self.position = one.position
            self.on_sight(server)
        self._grown.set()

    def events(self, server_id: str) -> list[ServerEvent]:
        return [decode_event(event.type, event.data) for one in self.commits[server_id] for event in one.commit.events]

    async def grows_until(self, holds: Callable[[], Any], seconds: float) -> None:
        """Wait for what the log has to show. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not holds():
                self._grown.clear()
                await self._grown.wait()

    async def until(self, holds: Callable[[], Any], what: str, seconds: float = SETTLE_SECONDS) -> None:
        try:
            await self.grows_until(holds, seconds)
        except TimeoutError as error:
            raise AssertionError(f"not within {seconds} s: {what}; {self._busy()}") from error

    def began(self, server_id: str, step: str) -> bool:
        """It has been at this step: who looks late on a slow machine may find it done."""
        return any(event.phase == "step_started" and event.body.step == step for event in self.events(server_id))

    async def settled(self, server_ids: Iterable[str]) -> None:
        """Every one of these exists and, as far as the log is now, nothing is going on with it."""
        await self.caught_up()
        wanted = list(server_ids)  # all there are by now, if these are this watch's
        await self.until(lambda: self.all_idle(wanted), "every action has ended")

    async def caught_up(self) -> None:
        """What is in the log now has been read."""
        now = await self._head()
        await self.until(lambda: self.position >= now, f"the log is read up to {now}")

    def all_idle(self, server_ids: Iterable[str]) -> bool:
        """Every one of these exists and nothing is going on with it, as far as the log was read."""
        return all(self._idle(one) for one in server_ids)

    async def _head(self) -> int:
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                try:
                    newest = await self.log.newest("server")
                    return newest.position if newest else 0
                except LogUnavailable:
                    await asyncio.sleep(PAUSE_SECONDS)

    def _idle(self, server_id: str) -> bool:
        server = self.servers.get(server_id)
        return server is not None and server.operation is None

    def _busy(self) -> str:
        busy = [one for one in self.servers.values() if one.operation is not None]
        return "; ".join(f"{one.name} {one.task_state} {one.operation}" for one in busy) or "nothing goes on"
