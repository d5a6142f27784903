"""The continuous archive: whole after kill -9 anywhere, never with a gap, and what a lost log is restored from."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from eventlog import archive
from eventlog import archiver as archiver_module
from eventlog.archive import ArchiveDamaged
from eventlog.archiver import Archiver
from eventlog.checkpoint import load_or_create_key, load_public_key
from eventlog.errors import LogUnavailable
from eventlog.log import EventLog
from eventlog.segments import Segment
from tests.eventlog_samples import append_many, make_checkpoint, new_id
from tests.nats_fixtures import LogPlace

WAIT_SECONDS = 60.0
SEGMENT = 10


@asynccontextmanager
async def archiving(log: EventLog, directory: Path) -> AsyncIterator[Archiver]:
    archiver = Archiver(log, directory, period=0.01, segment_commits=SEGMENT)
    try:
        yield archiver
    finally:
        await archiver.stop()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def caught_up(log: EventLog, directory: Path) -> None:
    """Archive what there is, and end."""
    head = await log.last_position()
    async with archiving(log, directory) as archiver:
        await until(lambda: archiver.position == head)


async def assert_whole(log: EventLog, directory: Path) -> None:
    """Every commit of the log, byte for byte, once, in order; the chain and the checkpoints hold."""
    stored = [(one.position, one.raw) async for batch in log.scan() for one in batch]
    assert [(one.position, bytes(one.message)) for one in archive.read(directory)] == stored
    assert archive.verify(directory, load_public_key(directory.parent / "keys")) is None


@pytest.fixture
async def directory(event_log: EventLog, tmp_path: Path) -> Path:
    """An archive of 36 commits with checkpoints among them: three closed segments and an open one."""
    key = load_or_create_key(tmp_path / "keys")
    await append_many(event_log, new_id(), 17)
    await make_checkpoint(event_log, key)
    await append_many(event_log, new_id(), 17)
    await make_checkpoint(event_log, key)
    await caught_up(event_log, tmp_path / "archive")
    return tmp_path / "archive"


def names(directory: Path) -> list[str]:
    return [path.name.lstrip("0") for path in archive.segments_of(directory)]


async def test_the_log_is_in_segments_that_follow_each_other(event_log: EventLog, directory: Path) -> None:
    assert names(directory) == ["1.jsonl", "11.jsonl", "21.jsonl", "31.open"]
    assert {path.stat().st_mode & 0o777 for path in directory.glob("*.jsonl")} == {0o400}
    await assert_whole(event_log, directory)


async def test_it_goes_on_where_it_ended(event_log: EventLog, directory: Path) -> None:
    before = {path: path.read_bytes() for path in directory.glob("*.jsonl")}
    await append_many(event_log, new_id(), 20)
    await caught_up(event_log, directory)
    assert names(directory) == ["1.jsonl", "11.jsonl", "21.jsonl", "31.jsonl", "41.jsonl", "51.open"]
    assert {path: path.read_bytes() for path in before} == before
    await assert_whole(event_log, directory)


async def test_a_stop_sees_the_change_of_segments_through(
    event_log: EventLog, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiver_module, "STOP_SECONDS", WAIT_SECONDS)
    between, go_on = threading.Event(), threading.Event()

    class Held(Archiver):
        """Waits between the end of a segment and the begin of the next."""

        def _begin(self, first: int, previous: str) -> Segment:
            between.set()
            assert go_on.wait(WAIT_SECONDS)
            return super()._begin(first, previous)

    await append_many(event_log, new_id(), 6)
    archiver = Held(event_log, directory, period=0.01, segment_commits=SEGMENT)
    try:
        await until(between.is_set)
        stopping = asyncio.create_task(archiver.stop())
        await asyncio.wait([stopping], timeout=0.2)
        assert not stopping.done()
    finally:
        go_on.set()
    await stopping
    assert names(directory) == ["1.jsonl", "11.jsonl", "21.jsonl", "31.jsonl", "41.open"]
    await assert_whole(event_log, directory)


async def test_whatever_a_crash_left_of_the_open_segment_is_made_whole(event_log: EventLog, directory: Path) -> None:
    """Cut anywhere, with garbage for an end, altered in the middle, or gone."""
    left = directory / f"{31:020}.open"
    whole = left.read_bytes()
    lines = whole.splitlines(keepends=True)
    cuts = [whole[:length] for length in (0, 1, len(lines[0]), len(lines[0]) + 7, len(whole) - 1)]
    for content in (*cuts, whole + b"\0" * 100, whole.replace(b"ada", b"bob"), b"".join(lines[:3] + lines[4:])):
        left.write_bytes(content)
        await caught_up(event_log, directory)
        assert left.read_bytes() == whole
    left.unlink()
    await caught_up(event_log, directory)
    await assert_whole(event_log, directory)


async def test_a_crash_between_the_trailer_and_the_name_closes_again(event_log: EventLog, directory: Path) -> None:
    closed = directory / f"{21:020}.jsonl"
    (directory / f"{31:020}.open").unlink()
    closed.rename(closed.with_suffix(".open"))
    assert [one.position for one in archive.read(directory)] == list(range(1, 31))
    await append_many(event_log, new_id(), 1)
    await caught_up(event_log, directory)
    await assert_whole(event_log, directory)


async def test_tampering_is_found_at_its_position(event_log: EventLog, directory: Path) -> None:
    segment = directory / f"{11:020}.jsonl"
    key = load_public_key(directory.parent / "keys")
    original = segment.read_bytes()
    lines = original.splitlines(keepends=True)

    def found(content: bytes | None) -> int:
        segment.chmod(0o600)
        if content is None:
            segment.unlink()
        else:
            segment.write_bytes(content)
        finding = archive.verify(directory, key)
        assert finding is not None
        return finding.position

    assert found(original.replace(lines[5], lines[5].replace(b"ada", b"bob"))) == 15
    assert found(b"".join(lines[:5] + lines[6:])) == 15
    assert found(original.replace(b'"previous":"', b'"previous":"0')) == 11
    assert found(b"".join(lines[:-1])) == 21
    assert found(None) == 11


async def test_a_lost_log_is_restored_from_it(event_log: EventLog, directory: Path, log_place: LogPlace) -> None:
    stored = [(one.position, one.raw) async for batch in event_log.scan() for one in batch]
    await event_log.js.delete_stream(log_place.stream)
    fresh = await log_place.open()
    try:
        assert await archive.restore(fresh, directory) == len(stored)
        assert [(one.position, one.raw) async for batch in fresh.scan() for one in batch] == stored
        await append_many(fresh, new_id(), 10)
        await caught_up(fresh, directory)
        await assert_whole(fresh, directory)
    finally:
        await fresh.close()


async def test_an_archive_that_knows_more_than_the_log_is_not_written_over(
    event_log: EventLog, directory: Path, log_place: LogPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in archive.segments_of(directory)}
    await event_log.js.delete_stream(log_place.stream)
    fresh = await log_place.open()
    try:
        for commits in (3, 50):
            await append_many(fresh, new_id(), commits)
            async with archiving(fresh, directory) as archiver:
                await until(lambda: "the log lost commits" in capsys.readouterr().out)
                assert archiver.position == 0
        assert {path: path.read_bytes() for path in archive.segments_of(directory)} == before
    finally:
        await fresh.close()


async def test_a_missing_segment_is_no_gap_that_is_written_over(
    event_log: EventLog, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / f"{21:020}.jsonl").unlink()
    await append_many(event_log, new_id(), 3)
    async with archiving(event_log, directory) as archiver:
        await until(lambda: "damaged at position 21" in capsys.readouterr().out)
        assert archiver.position == 0
    with pytest.raises(ArchiveDamaged):
        list(archive.read(directory))


async def test_two_archivers_of_one_directory_write_it_once(event_log: EventLog, tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    await append_many(event_log, new_id(), 25)
    async with archiving(event_log, directory) as first:
        await until(lambda: first.position == 25)
        async with archiving(event_log, directory) as second:
            await append_many(event_log, new_id(), 10)
            await until(lambda: first.position == 35)
            assert second.position == 0
            await first.stop()
            await append_many(event_log, new_id(), 10)
            await until(lambda: second.position == 45)
    await assert_whole(event_log, directory)


async def test_that_nothing_is_archived_is_told_once_and_that_it_is_again(event_log: EventLog, tmp_path: Path) -> None:
    told: list[str] = []
    in_the_way = tmp_path / "place"
    in_the_way.touch()
    await append_many(event_log, new_id(), 5)
    with capture_logs() as logged:
        archiver = Archiver(event_log, in_the_way / "archive", period=0.01, changed=told.append)
        try:
            await until(lambda: [one["event"] for one in logged].count("the log is not archived") >= 5)
            assert len(told) == 1
            assert str(in_the_way) in told[0]
            in_the_way.unlink()
            await until(lambda: len(told) == 2)
            assert (told[1], archiver.position) == ("", 5)
        finally:
            await archiver.stop()


async def test_a_directory_that_is_moved_away_is_told_and_the_log_copied_anew(
    event_log: EventLog, directory: Path
) -> None:
    told: list[str] = []
    archiver = Archiver(event_log, directory, period=0.01, segment_commits=SEGMENT, changed=told.append)
    try:
        head = await event_log.last_position()
        await until(lambda: archiver.position == head)
        moved = directory.rename(directory.with_name("moved"))
        await append_many(event_log, new_id(), 3)
        head = await event_log.last_position()
        await until(lambda: told[1:] == [""] and archiver.position == head)
    finally:
        await archiver.stop()
    assert "moved away or replaced" in told[0]
    await assert_whole(event_log, directory)
    assert archive.verify(moved, load_public_key(directory.parent / "keys")) is None


async def test_a_second_archiver_of_a_directory_tells_that_it_waits(event_log: EventLog, directory: Path) -> None:
    told: list[str] = []
    async with archiving(event_log, directory) as first:
        await until(lambda: first.position)
        second = Archiver(event_log, directory, period=0.01, changed=told.append)
        await until(lambda: told)
    try:
        await until(lambda: len(told) == 2)
    finally:
        await second.stop()
    assert [bool(one) for one in told] == [True, False]


PROGRAM = """
import asyncio, sys
from pathlib import Path
from eventlog.archiver import Archiver
from eventlog.log import EventLog

async def main(url, stream, prefix, directory):
    log = await EventLog.open(url, stream=stream, prefix=prefix)
    archiver = Archiver(log, Path(directory), period=0.01, segment_commits=10)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_at_any_time_it_leaves_no_gap_and_no_double(
    event_log: EventLog, log_place: LogPlace, tmp_path: Path
) -> None:
    directory = tmp_path / "archive"
    chance = random.Random(7)
    writing = asyncio.gather(*(append_many(event_log, new_id(), 400) for _ in range(5)))
    for _ in range(4):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", PROGRAM, log_place.url, log_place.stream, log_place.prefix, str(directory)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        await process.wait()
        entries = [one.position for one in archive.read(directory)] if any(directory.glob("*.*")) else []
        assert entries == list(range(1, len(entries) + 1))
    await writing
    await caught_up(event_log, directory)
    await assert_whole(event_log, directory)


async def test_while_nats_is_away_it_waits(event_log: EventLog, directory: Path) -> None:
    await append_many(event_log, new_id(), 3)
    async with archiving(event_log, directory) as archiver:
        await until(lambda: archiver.position == 39)
        await event_log.nc.close()
        with pytest.raises(LogUnavailable):
            await event_log.last_position()
        await asyncio.sleep(0.1)
        assert archiver.position == 39
