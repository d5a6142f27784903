"""Refused commands come out of their stream into a table."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from eventlog.log import EventLog
from projections import rejections, replay
from projections.database import ReadModelUnavailable, connect
from projections.projector import Projector
from projections.read_model import ReadModel
from projections.schema import rejections as table
from tests.projections_samples import ADA, START


@pytest.fixture(autouse=True)
async def stream(event_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stream of this test's own; the session's server is shared."""
    name = f"REJECTED_{event_log.stream}"
    monkeypatch.setattr(rejections, "STREAM", name)
    monkeypatch.setattr(rejections, "PAUSE_SECONDS", 0.05)
    return name


async def make_stream(log: EventLog, name: str) -> None:
    await log.js.add_stream(name=name, subjects=[f"{name}.>"])


async def refuse(log: EventLog, name: str, number: int, **more: Any) -> None:
    body = {
        "at": START,
        "kind": "server",
        "id": "s-1",
        "command": "stop",
        "actor": ADA,
        "request_id": f"req-{number}",
        "code": 409,
        "reason": "state",
        "message": "Cannot 'stop' instance s-1 while it is in vm_state stopped",
        "hint": "start it first",
        "params": {"grace_seconds": 5},
        **more,
    }
    await log.js.publish(f"{name}.server.s-1", msgspec.json.encode(body))


async def until(read: ReadModel, count: int) -> list[str]:
    async with asyncio.timeout(60):
        while len(found := await read.rejections()) < count:
            await asyncio.sleep(0.02)
    return [row.request_id for row in found]


async def test_they_are_shown_newest_first_and_survive_a_restart(
    event_log: EventLog, database_url: str, stream: str
) -> None:
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    await make_stream(event_log, stream)  # after the start: the projector waits for it
    await refuse(event_log, stream, 1)
    await event_log.js.publish(f"{stream}.server.s-1", b"not json")
    await refuse(event_log, stream, 2, id="s-2", message="There is no \0", params={"name": "\0"})
    assert await until(read, 2) == ["req-2", "req-1"]
    (row,) = await read.rejections(aggregate_id="s-2")
    assert (row.message, row.params) == ("There is no \ufffd", {"name": "\ufffd"})
    (row,) = await read.rejections(aggregate_id="s-1")
    assert (row.code, row.reason, row.user_name, row.params) == (409, "state", "ada", {"grace_seconds": 5})
    assert row.at == START
    assert row.actor["roles"] == ["member"]
    assert await read.rejections(project_id="p-other") == []
    assert len(await read.rejections(limit=1)) == 1
    await projector.stop()
    await refuse(event_log, stream, 3)
    projector = await Projector.start(event_log, database_url)
    assert await until(read, 3) == ["req-3", "req-2", "req-1"]
    await replay.rebuild(event_log, database_url)
    await refuse(event_log, stream, 4)
    assert await until(read, 4) == ["req-4", "req-3", "req-2", "req-1"]
    await projector.stop()
    await read.close()


async def test_what_the_stream_forgets_the_table_forgets(event_log: EventLog, database_url: str, stream: str) -> None:
    await make_stream(event_log, stream)
    await refuse(event_log, stream, 1)
    await refuse(event_log, stream, 2)
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    assert await until(read, 2) == ["req-2", "req-1"]
    await projector.stop()
    await event_log.js.purge_stream(stream, seq=2)
    projector = await Projector.start(event_log, database_url)
    async with asyncio.timeout(60):
        while [row.request_id for row in await read.rejections()] != ["req-2"]:
            await asyncio.sleep(0.02)
    # Another stream of the same name, with fewer messages than the place that was reached.
    await projector.stop()
    await event_log.js.delete_stream(stream)
    await make_stream(event_log, stream)
    await refuse(event_log, stream, 9)
    projector = await Projector.start(event_log, database_url)
    async with asyncio.timeout(60):
        while [row.request_id for row in await read.rejections()] != ["req-9"]:
            await asyncio.sleep(0.02)
    await projector.stop()
    await read.close()


async def test_a_read_model_made_anew_has_them_again_without_a_further_refusal(
    event_log: EventLog,
    database_url: str,
    stream: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(rejections, "FETCH_SECONDS", 0.2)
    caplog.set_level("DEBUG", "projections.rejections")
    await make_stream(event_log, stream)
    await refuse(event_log, stream, 1)
    await refuse(event_log, stream, 2)
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    assert await until(read, 2) == ["req-2", "req-1"]
    await replay.rebuild(event_log, database_url)  # as `chronova replay` beside it
    assert await until(read, 2) == ["req-2", "req-1"]
    await read.close()
    if database_url.startswith("sqlite"):
        file = Path(database_url.removeprefix("sqlite:///"))
        for one in file.parent.glob(f"{file.name}*"):
            one.unlink()
        read = await ReadModel.open(database_url, timeout=60)  # once it is there again
        assert await until(read, 2) == ["req-2", "req-1"]
        await read.close()
    await projector.stop()
    assert "broke off" not in caplog.text  # by looking, not by an accident that made it begin again


async def test_verify_compares_them_with_what_the_stream_still_holds(
    event_log: EventLog, database_url: str, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejections, "BATCH", 3)
    await (await Projector.start(event_log, database_url)).stop()
    assert await replay.verify(event_log, database_url) == []  # there is no stream yet
    await make_stream(event_log, stream)
    assert await replay.verify(event_log, database_url) == []  # there is nothing in it
    for number in range(1, 9):
        await refuse(event_log, stream, number)
    await event_log.js.publish(f"{stream}.server.s-1", b"not json")
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    await until(read, 8)
    await read.close()
    assert await replay.verify(event_log, database_url) == []
    await projector.stop()
    await refuse(event_log, stream, 10)  # not copied yet: nothing to compare
    assert await replay.verify(event_log, database_url) == []
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text("update rejections set message='forged' where id in (2, 5)"))
        connection.execute(text("delete from rejections where id = 7"))
        copy = "select 4711 as id, " + ", ".join(one.name for one in table.columns if one.name != "id")
        connection.execute(text(f"insert into rejections {copy} from rejections where id = 1"))
    found = [str(one) for one in await replay.verify(event_log, database_url)]
    sentence = "Cannot 'stop' instance s-1 while it is in vm_state stopped"
    assert found == [
        *(f"rejections {id}: message is 'forged', their stream gives {sentence!r}" for id in (2, 5)),
        "rejections 7: missing, their stream gives it",
        "rejections 4711: their stream gives no such row",
    ]
    await event_log.js.purge_stream(stream, seq=6)  # what it forgets is nobody's to say, until the table forgets it
    found = [str(one).partition(":")[0] for one in await replay.verify(event_log, database_url)]
    assert found == ["rejections 7", "rejections 4711"]
    with engine.begin() as connection:
        connection.execute(text("update positions set position = 99 where name = 'rejections'"))
    engine.dispose()
    found = [str(one) for one in await replay.verify(event_log, database_url)]
    assert found == ["positions rejections: position is 99, their stream gives 10"]
    await replay.rebuild(event_log, database_url)
    assert await replay.verify(event_log, database_url) == []


@pytest.mark.parametrize("name", ["log", "rejections"])
async def test_a_read_model_without_its_place_says_what_to_do_and_is_built_anew_by_itself(
    event_log: EventLog, database_url: str, stream: str, name: str
) -> None:
    await (await Projector.start(event_log, database_url)).stop()
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text("delete from positions where name = :name"), {"name": name})
    engine.dispose()
    for look in (replay.verify(event_log, database_url), replay.lag(event_log, database_url, 0)):
        with pytest.raises(ReadModelUnavailable, match=r"does not say how far it has come .* run `chronova replay`"):
            await look
    await (await Projector.start(event_log, database_url)).stop()
    assert await replay.verify(event_log, database_url) == []
