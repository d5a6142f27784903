"""nats-server stops, is killed, comes back: nothing acknowledged is lost, and followers go on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from eventlog import log as log_module
from eventlog.envelope import Recorded
from eventlog.errors import Conflict, LogUnavailable
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats
from tests.eventlog_samples import append, append_many, new_id

WRITERS = 16
WAIT_SECONDS = 60.0


async def reconnected(log: EventLog, times: int) -> None:
    """Wait until the connection was lost and is back, so many times so far."""
    async with asyncio.timeout(WAIT_SECONDS):
        while log.nc.stats["reconnects"] < times or not log.nc.is_connected:
            await asyncio.sleep(0.02)


async def test_kill_minus_9_under_writers_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "SETTLE_SECONDS", WAIT_SECONDS)  # however long the server takes to come back
    server = EmbeddedNats.start(tmp_path, sync_interval="always")
    log = await EventLog.open(server.url)
    acknowledged: dict[str, list[Recorded]] = {}
    stop = asyncio.Event()

    async def write() -> None:
        id = new_id()
        mine = acknowledged.setdefault(id, [])
        while not stop.is_set():
            try:
                mine.append(await append(log, id, mine[-1] if mine else None))
            except LogUnavailable:
                # Nothing was sent: what is in doubt is settled by the log before it answers.
                await asyncio.sleep(0.02)

    writers = [asyncio.create_task(write()) for _ in range(WRITERS)]
    for times in range(1, 4):
        before = sum(map(len, acknowledged.values()))
        async with asyncio.timeout(WAIT_SECONDS):
            while sum(map(len, acknowledged.values())) < before + 100:
                await asyncio.sleep(0.01)
        os.kill(server.pid, signal.SIGKILL)
        while server.poll() is None:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.restart)
        await reconnected(log, times)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*writers), 60)
    for id, mine in acknowledged.items():
        stored = await log.read("server", id)
        assert [(one.position, one.raw) for one in stored] == [(one.position, one.raw) for one in mine]
    assert await log.last_position() == sum(map(len, acknowledged.values()))
    await log.close()
    server.stop()


async def test_a_follower_survives_restarts_without_gap_or_double(tmp_path: Path) -> None:
    server = EmbeddedNats.start(tmp_path, sync_interval=None)
    log = await EventLog.open(server.url)
    positions: list[int] = []

    async def handler(commits: list[Recorded]) -> None:
        await asyncio.sleep(0)
        positions.extend(one.position for one in commits)

    follower = await log.follow(0, handler, batch=7)
    for times, way in enumerate(("stop", "kill", "stop"), 1):
        await append_many(log, new_id(), 50)
        if way == "stop":
            await asyncio.to_thread(server.stop)
        else:
            os.kill(server.pid, signal.SIGKILL)
            while server.poll() is None:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(server.restart)
        await reconnected(log, times)
    await append_many(log, new_id(), 50)
    async with asyncio.timeout(WAIT_SECONDS):
        while follower.position < 200:
            assert not follower.failed.done()
            await asyncio.sleep(0.01)
    assert positions == list(range(1, 201))
    await follower.stop()
    await log.close()
    server.stop()


async def test_while_the_server_is_away_every_call_fails_at_once(tmp_path: Path) -> None:
    server = EmbeddedNats.start(tmp_path, sync_interval=None)
    log = await EventLog.open(server.url, timeout=WAIT_SECONDS)
    id = new_id()
    first = await append(log, id, None)
    await asyncio.to_thread(server.stop)
    async with asyncio.timeout(WAIT_SECONDS):
        while log.nc.is_connected:
            await asyncio.sleep(0.01)
    async with asyncio.timeout(WAIT_SECONDS / 2):  # a call that waited for an answer would take longer
        with pytest.raises(LogUnavailable) as caught:
            await append(log, id, first)
        assert not caught.value.ambiguous
        with pytest.raises(LogUnavailable):
            await log.last("server", id)
        with pytest.raises(LogUnavailable):
            await log.last_position()
    await asyncio.to_thread(server.restart)
    await reconnected(log, 1)
    second = await append(log, id, first)
    assert second.position == 2
    with pytest.raises(Conflict):
        await append(log, id, first)
    await log.close()
    server.stop()
