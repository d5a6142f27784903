"""`chronova audit verify` on a copy of a log in which one commit was altered, removed, inserted or moved."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest

from cli import rundir
from eventlog import archive
from eventlog.checkpoint import load_or_create_key
from eventlog.envelope import Commit, Event, decode, encode, subject_of
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats
from tests.eventlog_samples import META, make_checkpoint
from tests.running import chronova

HISTORY = Path(__file__).parent.parent / "golden_histories" / "first.jsonl"
COMMITS = 40
Message = tuple[str, bytes]


async def fill(data: Path, messages: list[Message], *, sign: bool) -> None:
    """A data directory whose log holds these messages, in this order, and a checkpoint after them."""
    with EmbeddedNats.start(data, sync_interval=None) as nats:
        log = await EventLog.open(nats.url)
        try:
            for position, (subject, raw) in enumerate(messages, 1):
                await log.put_at(position, subject, raw)
            if sign:
                await make_checkpoint(log, load_or_create_key(data / "keys"))
                with (data / "log.jsonl").open("wb") as file:
                    await archive.export(log, file)
        finally:
            await log.close()


def messages_of(file: Path) -> list[Message]:
    return [(entry.subject, bytes(entry.message)) for entry in archive.read(file)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 commits of a real history and the checkpoint after them."""
    data = tmp_path_factory.mktemp("audit") / "original"
    data.mkdir()
    asyncio.run(fill(data, messages_of(HISTORY)[:COMMITS], sign=True))
    return data


def wizard() -> Message:
    commit = Commit(
        cid="x", kind="wizard", id="w", version=1, meta=META, events=[Event("wizard.did.it")], state=msgspec.Raw(b"{}")
    )
    return subject_of("wizard", "w"), encode(commit)[1]


def at_once(messages: list[Message]) -> int:
    """The position of a commit that is the only one of its aggregate: no chain misses it."""
    subjects = [subject for subject, _ in messages]
    return next(index for index, subject in enumerate(subjects, 1) if index > 1 and subjects.count(subject) == 1)


def altered(messages: list[Message], position: int) -> list[Message]:
    """By somebody who can compute hashes."""
    subject, raw = messages[position - 1]
    commit = msgspec.structs.replace(decode(position, subject, raw).commit, cid="forged")
    return [*messages[: position - 1], (subject, encode(commit)[1]), *messages[position:]]


@pytest.mark.parametrize("change", ["altered", "removed", "inserted", "swapped"])
def test_the_first_position_that_is_not_as_it_was_is_named(original: Path, tmp_path: Path, change: str) -> None:
    messages = messages_of(original / "log.jsonl")
    position = at_once(messages)
    before, here, following, after = (
        messages[: position - 1],
        *messages[position - 1 : position + 1],
        messages[position + 1 :],
    )
    changed = {
        "altered": altered(messages, position),
        "removed": [*before, following, *after],
        "inserted": [*before, wizard(), here, following, *after],
        "swapped": [*before, following, here, *after],
    }[change]
    data = tmp_path / "copy"
    shutil.copytree(original / "keys", data / "keys")
    asyncio.run(fill(data, changed, sign=False))
    told = chronova("audit", "verify", data=data)
    assert told.returncode == 1, told.stdout
    assert f"position {position} " in told.stderr


def test_what_was_cut_off_is_missed_by_the_archive(original: Path, tmp_path: Path) -> None:
    """After the last checkpoint no commit points to the one before it, and the end of a log is no gap."""
    messages = messages_of(original / "log.jsonl")
    data = tmp_path / "copy"
    (data / "archive").mkdir(parents=True)
    shutil.copytree(original / "keys", data / "keys")
    shutil.copy(original / "log.jsonl", data / "archive" / f"{1:020}.jsonl")
    asyncio.run(fill(data, messages[:-1], sign=False))
    told = chronova("audit", "verify", data=data)
    assert told.returncode == 1, told.stdout
    assert f"position {len(messages)} " in told.stderr
    assert f"the log ends at {len(messages) - 1}, its archive" in told.stderr


def test_an_archive_elsewhere_is_compared_when_it_is_named_or_the_last_start_had_it(
    original: Path, tmp_path: Path
) -> None:
    messages = messages_of(original / "log.jsonl")
    data, elsewhere = tmp_path / "copy", tmp_path / "elsewhere"
    for folder in (data, elsewhere):
        folder.mkdir()
    shutil.copytree(original / "keys", data / "keys")
    shutil.copy(original / "log.jsonl", elsewhere / f"{1:020}.jsonl")
    asyncio.run(fill(data, messages[:-1], sign=False))
    missed = f"the log ends at {len(messages) - 1}, its archive in {elsewhere} goes on"
    told = chronova("audit", "verify", data=data)
    assert told.returncode == 0, told.stderr
    assert missed in chronova("audit", "verify", "--archive", elsewhere, data=data).stderr
    rundir.write_json(rundir.last_log_path(data), {"nats": [], "database": None, "archive": str(elsewhere)})
    assert missed in chronova("audit", "verify", data=data).stderr
    (elsewhere / f"{1:020}.jsonl").unlink()
    told = chronova("audit", "verify", data=data)
    assert (told.returncode, told.stderr.count("not compared with the archive: there is none in")) == (0, 1)
    told = chronova("audit", "verify", "--archive", elsewhere, data=data)
    assert (told.returncode, f"there is no archive in {elsewhere}" in told.stderr) == (2, True)


def test_the_archive_knows_where_it_begins_without_a_checkpoint(original: Path, tmp_path: Path) -> None:
    messages = messages_of(original / "log.jsonl")[:-1]
    data = tmp_path / "copy"
    (data / "archive").mkdir(parents=True)
    shutil.copy(original / "log.jsonl", data / "archive" / f"{1:020}.jsonl")
    asyncio.run(fill(data, [*messages[:-2], messages[-1], messages[-2]], sign=False))
    told = chronova("audit", "verify", data=data)
    assert told.returncode == 1, told.stdout
    assert f"position {len(messages) - 1} " in told.stderr


def test_a_log_that_is_as_it_was_holds(original: Path) -> None:
    told = chronova("audit", "verify", data=original)
    assert told.returncode == 0, told.stderr
    assert "1 checkpoints" in told.stdout
