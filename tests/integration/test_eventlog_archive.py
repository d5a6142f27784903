"""Export, verification of the file, and restoring to the same positions; checkpoints on a real log."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from eventlog import archive
from eventlog.archive import RestoreRefused
from eventlog.checkpoint import load_or_create_key, load_public_key, read_checkpoint
from eventlog.errors import LogError, LogUnavailable
from eventlog.log import EventLog
from tests.eventlog_samples import append_many, make_checkpoint, new_id
from tests.nats_fixtures import LogPlace


@pytest.fixture
async def file(event_log: EventLog, tmp_path: Path) -> Path:
    """An archive of three aggregates, 30 commits, and two checkpoints at 21 and 32."""
    key = load_or_create_key(tmp_path / "keys")
    await asyncio.gather(*(append_many(event_log, new_id(), 10) for _ in range(2)))
    await make_checkpoint(event_log, key)
    await append_many(event_log, new_id(), 10)
    await make_checkpoint(event_log, key)
    path = tmp_path / "log.jsonl"
    with path.open("wb") as out:
        await archive.export(event_log, out)
    return path


def alter(path: Path, line: int, old: bytes, new: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new)
    path.write_bytes(b"".join(lines))


def position_found(path: Path) -> int:
    finding = archive.verify(path, load_public_key(path.parent / "keys"))
    assert finding is not None
    return finding.position


async def test_an_archive_has_a_header_a_line_per_position_and_a_trailer(file: Path, event_log: EventLog) -> None:
    lines = file.read_bytes().splitlines()
    assert len(lines) == 1 + 32 + 1
    entries = list(archive.read(file))
    assert [entry.position for entry in entries] == list(range(1, 33))
    for entry in entries:
        stored = await event_log.at(entry.position)
        assert stored is not None
        assert bytes(entry.message) == stored.raw
        assert entry.recorded_at is not None
    assert archive.verify(file, load_public_key(file.parent / "keys")) is None


async def test_an_empty_log_makes_an_empty_archive(event_log: EventLog, tmp_path: Path) -> None:
    out = io.BytesIO()
    trailer = await archive.export(event_log, out)
    assert (trailer.count, trailer.first, trailer.last) == (0, 0, 0)
    (tmp_path / "empty").write_bytes(out.getvalue())
    assert archive.verify(tmp_path / "empty") is None


async def test_tampering_with_the_file_is_found_at_the_first_bad_position(file: Path) -> None:
    original = file.read_bytes()
    lines = original.splitlines(keepends=True)

    def tamper(*changed: bytes) -> int:
        file.write_bytes(b"".join(changed))
        return position_found(file)

    assert tamper(*lines[:5], lines[5].replace(b"ada", b"bob"), *lines[6:]) == 5
    assert tamper(*lines[:5], *lines[6:]) == 5
    assert tamper(*lines[:5], lines[3], *lines[5:]) == 5
    assert tamper(*lines[:5], lines[6], lines[5], *lines[7:]) == 5
    assert tamper(*lines[:5], b"nonsense\n", *lines[6:]) == 5
    assert tamper(*lines[:5], lines[5].replace(b'"recorded_at":"2', b'"recorded_at":"1'), *lines[6:]) == 32
    assert tamper(*lines[:-1]) == 33
    assert tamper(*lines[:-2], lines[-1]) == 31
    assert tamper(*lines, lines[-1]) == 33
    assert tamper(*lines[1:]) == 0
    file.write_bytes(original)
    assert archive.verify(file) is None


async def test_a_file_that_a_json_tool_wrote_anew_is_found_where_it_says_something_else(file: Path) -> None:
    entries = [json.loads(line) for line in file.read_bytes().splitlines()]

    def written_anew() -> int:
        file.write_text("".join(json.dumps(one) + "\n" for one in entries))
        return position_found(file)

    assert written_anew() == 32, "only the trailer knows that these are not the bytes that were exported"
    entries[5]["message"]["c"]["meta"]["actor"]["user_name"] = "bob"
    assert written_anew() == 5


async def test_a_restored_log_is_the_same_log(file: Path, event_log: EventLog, log_place: LogPlace) -> None:
    # The archive goes into another stream, so the subjects of the first have to be free again.
    await event_log.js.delete_stream(event_log.stream)
    target = await EventLog.open(log_place.url, stream=f"{log_place.stream}_2", prefix=log_place.prefix)
    try:
        seen: list[int] = []
        assert await archive.restore(target, file, progress=seen.append) == 32
        assert seen[-1] == 32
        restored = [one async for batch in target.scan() for one in batch]
        original = list(archive.read(file))
        assert [(one.position, one.raw) for one in restored] == [(e.position, bytes(e.message)) for e in original]
        # Life goes on: the next commit continues the chain.
        last = restored[-2]
        await append_many(target, new_id(), 1)
        assert (await target.last(last.commit.kind, last.commit.id)) is not None
        with pytest.raises(RestoreRefused, match="not empty"):
            await archive.restore(target, file)
    finally:
        await target.close()


async def test_a_damaged_archive_restores_nothing(file: Path, event_log: EventLog, log_place: LogPlace) -> None:
    alter(file, 20, b"ada", b"bob")
    await event_log.js.delete_stream(event_log.stream)
    target = await log_place.open()
    try:
        with pytest.raises(RestoreRefused, match="position 20"):
            await archive.restore(target, file)
        assert await target.last_position() == 0
    finally:
        await target.close()


async def test_an_archive_of_other_subjects_is_refused(file: Path, log_place: LogPlace) -> None:
    target = await EventLog.open(log_place.url, stream=f"{log_place.stream}_3", prefix=f"{log_place.prefix}-3")
    try:
        with pytest.raises(RestoreRefused, match="the archive is of subjects"):
            await archive.restore(target, file)
    finally:
        await target.close()


async def test_a_position_that_is_taken_is_never_written_to(event_log: EventLog) -> None:
    commit = (await append_many(event_log, new_id(), 1))[0]
    with pytest.raises((LogError, LogUnavailable), match="position 1"):
        await event_log.put_at(1, event_log.subject_of(commit.commit), commit.raw)
    assert await event_log.last_position() == 1


async def test_checkpoints_cover_everything_once_and_none_is_made_for_nothing(
    event_log: EventLog, tmp_path: Path
) -> None:
    key = load_or_create_key(tmp_path)
    assert await make_checkpoint(event_log, key) is None
    await append_many(event_log, new_id(), 3)
    first = await make_checkpoint(event_log, key)
    assert await make_checkpoint(event_log, key) is None
    await append_many(event_log, new_id(), 2)
    second = await make_checkpoint(event_log, key)
    assert first is not None
    assert second is not None
    made = [read_checkpoint(first.commit), read_checkpoint(second.commit)]
    assert [(one.first, one.last) for one in made] == [(1, 3), (4, 6)]
    assert made[1].previous == first.hash
    assert all(one.is_signed_by(key.public_key()) for one in made)


async def test_checkpoints_made_at_once_are_one_checkpoint(event_log: EventLog, tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path)
    await append_many(event_log, new_id(), 3)
    made = await asyncio.gather(*(make_checkpoint(event_log, key) for _ in range(4)))
    assert {one.position for one in made if one} == {4}


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path / "keys")
    assert (tmp_path / "keys" / "checkpoint.key").stat().st_mode & 0o777 == 0o600
    again = load_or_create_key(tmp_path / "keys")
    assert again.private_bytes_raw() == key.private_bytes_raw()
    public = load_public_key(tmp_path / "keys")
    assert public is not None
    assert public.public_bytes_raw() == key.public_key().public_bytes_raw()
    assert load_public_key(tmp_path / "nowhere") is None
    (tmp_path / "keys" / "checkpoint.key").write_text("nonsense")
    with pytest.raises(LogError, match="restore it from a backup"):
        load_or_create_key(tmp_path / "keys")
