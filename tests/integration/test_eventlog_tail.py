"""What several writers append reaches a follower once and in order, its own process's commits without coming back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from eventlog import tail
from eventlog.envelope import Recorded
from eventlog.follower import Follower
from eventlog.log import EventLog
from tests.eventlog_samples import append, append_many, new_id
from tests.nats_fixtures import LogPlace

WAIT_SECONDS = 60


@pytest.fixture
async def other_log(log_place: LogPlace) -> AsyncIterator[EventLog]:
    """The same log, as another process has it."""
    log = await log_place.open()
    yield log
    await log.close()


class Seen:
    def __init__(self) -> None:
        self.commits: list[Recorded] = []

    async def __call__(self, commits: list[Recorded]) -> None:
        self.commits += commits

    async def reaches(self, follower: Follower, position: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while follower.position < position:
                assert not follower.failed.done()
                await asyncio.sleep(0.01)

    @property
    def positions(self) -> list[int]:
        return [one.position for one in self.commits]


async def test_what_this_process_appended_is_handed_on_as_it_is(event_log: EventLog) -> None:
    await append(event_log, new_id(), None)
    seen = Seen()
    follower = await event_log.follow(0, seen)
    await seen.reaches(follower, 1)
    own: list[Recorded] = []
    async with asyncio.timeout(WAIT_SECONDS):
        # The server sends the answer and the commit at the same time: the feed may be first, and decodes its copy then.
        while not any(got is given for got, given in zip(seen.commits[1:], own, strict=True)):
            own += await append_many(event_log, new_id(), 3)
            await seen.reaches(follower, 1 + len(own))
    assert seen.positions == list(range(1, 2 + len(own)))
    await follower.stop()


async def test_commits_of_several_processes_come_once_and_in_order(event_log: EventLog, other_log: EventLog) -> None:
    seen, of_other = Seen(), Seen()
    followers = [await event_log.follow(0, seen), await other_log.follow(0, of_other)]
    writers = [append_many(log, new_id(), 20) for log in (event_log, other_log) for _ in range(8)]
    await asyncio.gather(*writers)
    for one, follower in zip((seen, of_other), followers, strict=True):
        await one.reaches(follower, 320)
        assert one.positions == list(range(1, 321))
        assert follower.lag() == 0
        await follower.stop()
    stored = {one.position: one.raw async for batch in event_log.scan() for one in batch}
    assert {one.position: one.raw for one in seen.commits} == stored


async def test_an_own_commit_waits_for_those_before_it(event_log: EventLog, other_log: EventLog) -> None:
    seen = Seen()
    follower = await event_log.follow(0, seen)
    own = await append(event_log, new_id(), None)
    await seen.reaches(follower, 1)
    third = Recorded(3, own.hash, own.commit, own.raw)
    event_log.tail.appended(third)
    await append(other_log, new_id(), None)
    await seen.reaches(follower, 3)
    assert seen.positions == [1, 2, 3]
    assert seen.commits[2] is third
    await follower.stop()


@pytest.mark.parametrize("more", [30, 31, 32])  # the inbox is full at the end, or would have begun anew
async def test_a_follower_too_slow_for_its_inbox_misses_nothing(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(tail, "INBOX_COMMITS", 4)
    gate = asyncio.Event()
    seen = Seen()

    async def slow(commits: list[Recorded]) -> None:
        await seen(commits)
        await gate.wait()

    follower = await event_log.follow(0, slow)
    await append(event_log, new_id(), None)
    async with asyncio.timeout(WAIT_SECONDS):
        while not seen.commits:
            await asyncio.sleep(0.01)
    await append_many(event_log, new_id(), more)
    gate.set()
    await seen.reaches(follower, 1 + more)
    assert seen.positions == list(range(1, 2 + more))
    await follower.stop()


async def test_a_message_lost_on_the_way_is_noticed_and_read_again(event_log: EventLog, other_log: EventLog) -> None:
    await append_many(other_log, new_id(), 10)
    seen = Seen()
    follower = await event_log.follow(0, seen)
    await append_many(other_log, new_id(), 1)
    await seen.reaches(follower, 11)
    with suppress(StopIteration):
        next(iter(event_log._feeds))._received -= 1
    await append_many(other_log, new_id(), 5)
    await seen.reaches(follower, 16)
    assert seen.positions == list(range(1, 17))
    await follower.stop()
