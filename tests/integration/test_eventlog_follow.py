"""Following: everything once and in order, back-pressure, failure of the handler."""

from __future__ import annotations

import asyncio

import pytest

from eventlog import feed
from eventlog.envelope import Recorded
from eventlog.errors import LogUnavailable
from eventlog.follower import Follower
from eventlog.log import EventLog
from tests.eventlog_samples import append, append_many, new_id


class Seen:
    """A handler that remembers what it was given, and can be waited for."""

    def __init__(self) -> None:
        self.commits: list[Recorded] = []
        self.batches: list[int] = []

    async def __call__(self, commits: list[Recorded]) -> None:
        self.commits += commits
        self.batches.append(len(commits))

    @property
    def positions(self) -> list[int]:
        return [one.position for one in self.commits]

    async def reaches(self, follower: Follower, position: int) -> None:
        async with asyncio.timeout(60):
            while follower.position < position:
                assert not follower.failed.done()
                await asyncio.sleep(0.01)


async def test_a_follower_sees_the_past_and_then_the_present(event_log: EventLog) -> None:
    await append_many(event_log, new_id(), 3)
    seen = Seen()
    follower = await event_log.follow(1, seen)
    await append_many(event_log, new_id(), 2)
    await seen.reaches(follower, 5)
    assert seen.positions == [2, 3, 4, 5]
    assert follower.lag() == 0
    await follower.stop()
    assert follower.failed.result() is None


async def test_a_follower_of_a_kind_sees_that_kind(event_log: EventLog) -> None:
    await append_many(event_log, new_id(), 2)
    await append_many(event_log, new_id(), 2, kind="keypair")
    seen = Seen()
    follower = await event_log.follow(0, seen, kind="keypair")
    await seen.reaches(follower, 4)
    assert seen.positions == [3, 4]
    await follower.stop()


async def test_batches_have_a_limit(event_log: EventLog) -> None:
    await append_many(event_log, new_id(), 25)
    seen = Seen()
    follower = await event_log.follow(0, seen, batch=10)
    await seen.reaches(follower, 25)
    assert max(seen.batches) <= 10
    assert seen.positions == list(range(1, 26))
    await follower.stop()


async def test_a_slow_handler_holds_the_server_back(event_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BUFFER_MESSAGES", 50)
    monkeypatch.setattr(feed, "BUFFER_BYTES", 1 << 20)
    await asyncio.gather(*(append_many(event_log, new_id(), 100) for _ in range(30)))
    gate = asyncio.Event()
    seen = Seen()
    most_buffered = 0

    async def slow(commits: list[Recorded]) -> None:
        nonlocal most_buffered
        await gate.wait()
        most_buffered = max(most_buffered, *(len(one._buffer) for one in event_log._feeds))
        await seen(commits)

    follower = await event_log.follow(0, slow, batch=20)
    async with asyncio.timeout(60):
        while follower.lag() != 3000:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)  # in which the feed would take more than it may
    assert follower.lag() == 3000
    gate.set()
    await seen.reaches(follower, 3000)
    assert seen.positions == list(range(1, 3001))
    assert most_buffered < 3000
    await follower.stop()


async def test_a_handler_that_fails_ends_the_follower_and_its_error_is_there(event_log: EventLog) -> None:
    await append_many(event_log, new_id(), 3)

    async def handler(commits: list[Recorded]) -> None:
        raise LogUnavailable("the handler's own trouble")

    follower = await event_log.follow(0, handler)
    with pytest.raises(LogUnavailable, match="the handler's own trouble"):
        await asyncio.wait_for(follower.failed, 60)
    assert follower.position == 0
    await follower.stop()


async def test_a_new_follower_goes_on_where_the_last_one_stopped(event_log: EventLog) -> None:
    id = new_id()
    first, second = Seen(), Seen()
    follower = await event_log.follow(0, first)
    await append_many(event_log, id, 3)
    await first.reaches(follower, 3)
    await follower.stop()
    await append(event_log, id, await event_log.last("server", id))
    follower = await event_log.follow(follower.position, second)
    await second.reaches(follower, 4)
    assert second.positions == [4]
    await follower.stop()


async def test_stopping_in_the_middle_of_a_batch_does_not_count_it(event_log: EventLog) -> None:
    await append_many(event_log, new_id(), 3)
    started = asyncio.Event()

    async def handler(commits: list[Recorded]) -> None:
        started.set()
        await asyncio.sleep(60)

    follower = await event_log.follow(0, handler)
    await asyncio.wait_for(started.wait(), 60)
    await follower.stop()
    assert follower.position == 0
