"""A lost acknowledgement is settled: the commit was stored once, or is stored now, or another one won."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from eventlog import log as log_module
from eventlog.errors import Conflict, LogUnavailable
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats
from tests.eventlog_samples import append, new_id
from tests.nats_fixtures import LogPlace
from tests.tcp_proxy import LossyProxy, lossy_proxy


@dataclass
class Lines:
    """The same log over a line that loses things, and over one that does not."""

    proxy: LossyProxy
    lossy: EventLog
    sound: EventLog


@pytest.fixture
async def lines(nats_server: EmbeddedNats, log_place: LogPlace) -> AsyncIterator[Lines]:
    async with lossy_proxy(nats_server.port) as proxy:
        sound = await log_place.open()
        lossy = await log_place.open(proxy.url)
        lossy._mux._timeout = 0.5  # from now on: opening it may take as long as it likes
        yield Lines(proxy, lossy, sound)
        await lossy.close()
        await sound.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def until_stored(log: EventLog, count: int) -> None:
    async with asyncio.timeout(60):
        while await log.last_position() < count:
            await asyncio.sleep(0.01)


async def test_a_commit_whose_acknowledgement_was_lost_is_found(lines: Lines) -> None:
    id = new_id()
    lines.proxy.lose_answers = True
    pending = asyncio.create_task(append(lines.lossy, id, None))
    await until_stored(lines.sound, 1)
    lines.proxy.cut()
    recorded = await pending
    assert recorded.position == 1
    assert await lines.sound.last_position() == 1
    stored = await lines.sound.last("server", id)
    assert stored is not None
    assert stored.raw == recorded.raw


async def test_a_commit_that_was_lost_is_stored_now(lines: Lines) -> None:
    id = new_id()
    lines.proxy.lose_requests = True
    pending = asyncio.create_task(append(lines.lossy, id, None))
    await asyncio.sleep(0.1)
    assert await lines.sound.last_position() == 0
    lines.proxy.cut()
    recorded = await pending
    stored = await lines.sound.last("server", id)
    assert stored is not None
    assert (stored.position, stored.raw) == (1, recorded.raw)
    assert await lines.sound.last_position() == 1


async def test_silence_without_a_broken_connection_is_settled_too(lines: Lines) -> None:
    id = new_id()
    lines.proxy.lose_requests = True
    pending = asyncio.create_task(append(lines.lossy, id, None))
    await asyncio.sleep(0.7)
    lines.proxy.lose_requests = False
    assert (await pending).position == 1
    assert await lines.sound.last_position() == 1


async def test_a_lost_commit_that_another_writer_overtook_is_a_conflict(lines: Lines) -> None:
    id = new_id()
    first = await append(lines.sound, id, None)
    lines.proxy.lose_requests = True
    pending = asyncio.create_task(append(lines.lossy, id, first))
    await asyncio.sleep(0.1)
    winner = await append(lines.sound, id, first)
    lines.proxy.cut()
    with pytest.raises(Conflict) as caught:
        await pending
    assert caught.value.current is not None
    assert caught.value.current.raw == winner.raw


async def test_a_stored_commit_that_others_built_upon_is_still_found(lines: Lines) -> None:
    id = new_id()
    lines.proxy.lose_answers = True
    pending = asyncio.create_task(append(lines.lossy, id, None))
    await until_stored(lines.sound, 1)
    mine = await lines.sound.last("server", id)
    second = await append(lines.sound, id, mine)
    await append(lines.sound, id, second)
    lines.proxy.cut()
    assert (await pending).position == 1


async def test_what_can_not_be_settled_in_time_is_said_to_be_ambiguous(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = new_id()
    lines.proxy.lose_answers = True
    with monkeypatch.context() as hurried:
        hurried.setattr(log_module, "SETTLE_SECONDS", 0.5)
        with pytest.raises(LogUnavailable) as caught:
            await append(lines.lossy, id, None, cid="mine")
    assert caught.value.ambiguous
    reconnects = lines.lossy.nc.stats["reconnects"]
    lines.proxy.cut()
    await until(lambda: lines.lossy.nc.stats["reconnects"] > reconnects and lines.lossy.nc.is_connected)
    assert (await append(lines.lossy, id, None, cid="mine")).position == 1
    assert await lines.sound.last_position() == 1
