"""Appending: the condition, the winner, retries, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from eventlog import log as log_module
from eventlog.envelope import Recorded
from eventlog.errors import CommitTooLarge, Conflict, LogUnavailable, StreamMismatch
from eventlog.feed import Feed, Message
from eventlog.log import EventLog
from eventlog.stream import MAX_COMMIT_BYTES
from tests.eventlog_samples import META, append, append_many, events, new_id
from tests.nats_fixtures import LogPlace

WRITERS = 64
ROUNDS = 5


async def test_commits_of_an_aggregate_are_numbered_and_chained(event_log: EventLog) -> None:
    id = new_id()
    first = await append(event_log, id, None, "server.create.accepted")
    second = await append(event_log, id, first, "server.create.succeeded", "server.start.accepted")
    assert (first.position, first.commit.version, first.commit.prev) == (1, 1, "")
    assert (second.position, second.commit.version, second.commit.first_version) == (2, 3, 2)
    assert second.commit.prev == first.hash


async def test_what_is_appended_is_what_is_loaded(event_log: EventLog) -> None:
    id = new_id()
    appended = await append(event_log, id, None)
    for loaded in (
        await event_log.last("server", id),
        await event_log.last_from_leader("server", id),
        await event_log.at(1),
        (await event_log.read("server", id))[0],
    ):
        assert loaded is not None
        assert (loaded.position, loaded.hash, loaded.raw) == (appended.position, appended.hash, appended.raw)
        assert loaded.recorded_at is not None


async def test_an_aggregate_that_does_not_exist_has_no_last_commit(event_log: EventLog) -> None:
    assert await event_log.last("server", new_id()) is None
    assert await event_log.last_from_leader("server", new_id()) is None
    assert await event_log.at(1) is None
    assert await event_log.last_position() == 0


async def test_creating_an_aggregate_twice_is_a_conflict_that_shows_the_first(event_log: EventLog) -> None:
    id = new_id()
    first = await append(event_log, id, None)
    with pytest.raises(Conflict) as caught:
        await append(event_log, id, None)
    assert caught.value.current is not None
    assert caught.value.current.raw == first.raw


async def test_appending_to_an_aggregate_that_is_not_there_is_a_conflict_with_nothing(event_log: EventLog) -> None:
    elsewhere = await append(event_log, new_id(), None)
    with pytest.raises(Conflict) as caught:
        await append(event_log, new_id(), elsewhere)
    assert caught.value.current is None


async def test_of_64_writers_on_one_aggregate_one_wins_each_round_and_the_others_see_the_winner(
    event_log: EventLog,
) -> None:
    id = new_id()
    expected: Recorded | None = None
    for _ in range(ROUNDS):
        outcomes = await asyncio.gather(
            *(append(event_log, id, expected) for _ in range(WRITERS)), return_exceptions=True
        )
        winners = [outcome for outcome in outcomes if isinstance(outcome, Recorded)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
        assert (len(winners), len(losers)) == (1, WRITERS - 1)
        assert {loser.current.raw for loser in losers if loser.current} == {winners[0].raw}
        expected = winners[0]
    assert await event_log.last_position() == ROUNDS


async def test_a_retry_with_the_same_commit_id_returns_the_commit_it_made(event_log: EventLog) -> None:
    id = new_id()
    first = await append(event_log, id, None, cid="one")
    assert (await append(event_log, id, None, cid="one")).raw == first.raw
    second = await append(event_log, id, first, cid="two")
    await append(event_log, id, second, cid="three")
    assert (await append(event_log, id, first, cid="two")).raw == second.raw
    assert (await append(event_log, id, None, cid="one")).raw == first.raw
    assert await event_log.last_position() == 3


async def test_a_commit_id_further_down_is_no_retry(event_log: EventLog) -> None:
    id = new_id()
    first = await append(event_log, id, None, cid="one")
    second = await append(event_log, id, first, cid="two")
    third = await append(event_log, id, second, cid="three")
    with pytest.raises(Conflict) as caught:
        await append(event_log, id, first, cid="three")
    assert caught.value.current is not None
    assert caught.value.current.position == third.position


async def test_a_commit_that_is_too_large_is_refused_before_it_is_sent(event_log: EventLog) -> None:
    state = msgspec.json.encode("x" * (1 << 20))
    with pytest.raises(CommitTooLarge, match="the log takes 1048576"):
        await event_log.append("server", new_id(), expected=None, events=events(), state=state, meta=META)
    assert await event_log.last_position() == 0


async def test_a_commit_of_just_the_size_that_the_log_takes_is_stored(event_log: EventLog) -> None:
    id = new_id()
    spare = MAX_COMMIT_BYTES - len((await append(event_log, new_id(), None)).raw)
    state = b'{"vm_state":"active%s"}' % (b"x" * spare)
    recorded = await event_log.append("server", id, expected=None, events=events(), state=state, meta=META)
    assert len(recorded.raw) == MAX_COMMIT_BYTES
    stored = await event_log.last("server", id)
    assert stored is not None
    assert stored.raw == recorded.raw
    assert len(await event_log.read("server", id)) == 1


async def test_a_commit_needs_an_event(event_log: EventLog) -> None:
    with pytest.raises(ValueError, match="at least one event"):
        await event_log.append("server", new_id(), expected=None, events=[], state=b"{}", meta=META)


async def test_reading_a_history_by_position(event_log: EventLog) -> None:
    mine, other = new_id(), new_id()
    commits = await append_many(event_log, mine, 5)
    await append_many(event_log, other, 3)
    assert [one.position for one in await event_log.read("server", mine)] == [1, 2, 3, 4, 5]
    between = await event_log.read("server", mine, after_position=1, upto=3)
    assert [one.raw for one in between] == [one.raw for one in commits[1:3]]
    assert await event_log.read("server", mine, after_position=5) == []
    assert await event_log.read("server", new_id()) == []


async def test_scanning_gives_everything_up_to_the_head_in_order(event_log: EventLog) -> None:
    await asyncio.gather(*(append_many(event_log, new_id(), 100) for _ in range(25)))
    await append_many(event_log, new_id(), 3, kind="keypair")
    batches = [batch async for batch in event_log.scan()]
    assert [one.position for batch in batches for one in batch] == list(range(1, 2504))
    assert max(len(batch) for batch in batches) <= 1000
    assert [one.position async for batch in event_log.scan(kind="keypair") for one in batch] == [2501, 2502, 2503]
    assert [one.position async for batch in event_log.scan(10, upto=12) for one in batch] == [11, 12]


class BehindFeed(Feed):
    """As of a server of a cluster that was started again and gets what the others have while it serves the feed."""

    async def open(self, **how: Any) -> None:
        await super().open(**how)
        self.expected = 0

    async def batch(self, limit: int) -> list[Message]:
        return [one._replace(pending=0) for one in await super().batch(min(limit, 2))]


async def test_a_server_that_is_behind_ends_no_scan_early(event_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    await append_many(event_log, new_id(), 5)
    await append_many(event_log, new_id(), 1, kind="keypair")
    monkeypatch.setattr(log_module, "Feed", BehindFeed)
    assert [one.position async for batch in event_log.scan() for one in batch] == [1, 2, 3, 4, 5, 6]
    assert [one.position async for batch in event_log.scan(kind="server") for one in batch] == [1, 2, 3, 4, 5]
    assert [one.position async for batch in event_log.scan(1, upto=4) for one in batch] == [2, 3, 4]
    assert [one async for one in event_log.scan(kind="volume")] == []


async def test_scan_last_gives_the_newest_commit_of_every_aggregate_of_a_kind_once(event_log: EventLog) -> None:
    newest = {}
    for count in (1, 2, 5):
        id = new_id()
        newest[id] = (await append_many(event_log, id, count))[-1].raw
    await append_many(event_log, new_id(), 2, kind="keypair")
    found = [one async for one in event_log.scan_last("server")]
    assert {one.commit.id: one.raw for one in found} == newest
    assert len(found) == 3
    assert len([one async for one in event_log.scan_last()]) == 4
    assert [one async for one in event_log.scan_last("volume")] == []


async def test_the_log_can_not_be_deleted_from_or_purged(event_log: EventLog) -> None:
    await append(event_log, new_id(), None)
    with pytest.raises(Exception, match="message delete not permitted"):
        await event_log.js.delete_msg(event_log.stream, 1)
    with pytest.raises(Exception, match="stream purge not permitted"):
        await event_log.js.purge_stream(event_log.stream)
    assert await event_log.at(1) is not None


async def test_a_stream_that_could_lose_commits_is_refused(log_place: LogPlace) -> None:
    log = await log_place.open()
    try:
        await log.js.add_stream(name=f"{log_place.stream}_X", subjects=[f"{log_place.prefix}x.>"], max_age=60)
    finally:
        await log.close()
    with pytest.raises(StreamMismatch, match="commits would expire"):
        await EventLog.open(log_place.url, stream=f"{log_place.stream}_X", prefix=f"{log_place.prefix}x")


async def test_without_a_server_opening_says_so_and_shows_no_password() -> None:
    with pytest.raises(LogUnavailable, match=r"no NATS server answers at 127\.0\.0\.1:1: ") as caught:
        await EventLog.open("nats://user:secret@127.0.0.1:1", timeout=0.5)
    assert "secret" not in str(caught.value)
