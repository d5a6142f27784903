"""The projector against a real log and real databases: following, restarting, fencing, rebuilding, verifying."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from eventlog.envelope import Event
from eventlog.log import EventLog
from projections import replay, waiting
from projections.database import ReadModelUnavailable, connect, version_of
from projections.projector import Projector
from projections.query import ServerQuery
from projections.read_model import ReadModel
from projections.swap import RebuildInProgress
from tests.postgres_fixture import Postgres
from tests.projections_samples import World, all_rows, append_all, fill, lively, spelled


async def test_a_follower_shows_every_commit_and_says_how_far_it_is(event_log: EventLog, database_url: str) -> None:
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    world = lively()
    last = await append_all(event_log, world)
    assert await read.wait_for(last, 60)
    assert read.position == projector.position == last
    assert not await read.wait_for(last + 1, 0.05)
    for id, server in world.servers.items():
        assert await read.server(id) == server
    for (kind, id), resource in world.resources.items():
        assert await read.resource(kind, id) == resource
    await projector.stop()
    assert projector.failed.done()
    await read.close()
    assert await replay.verify(event_log, database_url) == []


async def test_a_restarted_projector_goes_on_where_it_stopped(event_log: EventLog, database_url: str) -> None:
    world = lively()
    for part in (slice(0, 20), slice(20, None)):
        half = World()
        half.log = world.log[part]
        await append_all(event_log, half, start=0) if part.start == 0 else await append_all(event_log, world, start=20)
        projector = await Projector.start(event_log, database_url)
        read = await ReadModel.open(database_url)
        assert await read.wait_for(await event_log.last_position(), 60)
        await read.close()
        await projector.stop()
    assert await replay.verify(event_log, database_url) == []


async def test_two_projectors_on_one_database_apply_every_commit_once(event_log: EventLog, database_url: str) -> None:
    first = await Projector.start(event_log, database_url)
    second = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    last = await append_all(event_log, lively())
    assert await read.wait_for(last, 60)
    assert not first.failed.done()
    assert not second.failed.done()
    await first.stop()
    await second.stop()
    await read.close()
    assert await replay.verify(event_log, database_url) == []


async def test_a_rebuild_beside_a_running_projector_is_swapped_in_under_its_readers(
    event_log: EventLog, database_url: str
) -> None:
    world = lively()
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    await append_all(event_log, world)
    assert await read.wait_for(len(world.log), 60)
    servers = await read.servers(ServerQuery(deleted=None))
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text("update servers set state='{}', name='wrong'"))
    engine.dispose()
    steps: list[tuple[int, int]] = []
    assert await replay.rebuild(event_log, database_url, lambda done, all_: steps.append((done, all_))) == len(
        world.log
    )
    assert steps[-1] == (len(world.log), len(world.log))
    assert await read.servers(ServerQuery(deleted=None)) == servers
    after = len(world.log)
    world.do(world.active("later"), "stop")
    last = await append_all(event_log, world, start=after)
    assert await read.wait_for(last, 60)
    await projector.stop()
    await read.close()
    assert await replay.verify(event_log, database_url) == []


async def test_verify_names_the_rows_that_the_log_does_not_give(event_log: EventLog, database_url: str) -> None:
    world = lively()
    await append_all(event_log, world)
    await replay.rebuild(event_log, database_url)
    assert await replay.verify(event_log, database_url) == []
    victim, other = list(world.servers)[:2]
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text("update servers set name='wrong' where id=:id"), {"id": victim})
        connection.execute(text("delete from placement where server_id=:id"), {"id": victim})
        connection.execute(text("insert into placement values ('ghost', 'current', 'host-9', 1, 1, 1)"))
        connection.execute(text("delete from servers where id=:id"), {"id": other})
    engine.dispose()
    found = await replay.verify(event_log, database_url)
    told = [str(difference) for difference in found]
    assert any(f"servers {victim}: name is 'wrong', the log gives 'web-2'" in one for one in told)
    assert any(f"servers {other}: missing" in one for one in told)
    assert any(one.startswith("placement ghost/current: the log gives no such row") for one in told)
    assert any(one.startswith(f"placement {victim}/current: missing") for one in told)


@pytest.mark.parametrize("place", ["hash = 'of another commit'", "position = position + 9"], ids=["hash", "position"])
async def test_verify_names_a_place_that_the_log_does_not_give(
    event_log: EventLog, database_url: str, place: str
) -> None:
    await append_all(event_log, lively())
    await replay.rebuild(event_log, database_url)
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text(f"update positions set {place} where name = 'log'"))
    engine.dispose()
    (found,) = await replay.verify(event_log, database_url)
    assert str(found).startswith(f"positions log: {place.split(maxsplit=1)[0]} is ")


async def test_verify_looks_at_one_moment_while_the_log_goes_on(event_log: EventLog, database_url: str) -> None:
    world = lively()
    await append_all(event_log, world)
    projector = await Projector.start(event_log, database_url)
    before = len(world.log)
    for number in range(10):
        world.active(f"more-{number}")
    checks = [asyncio.create_task(append_all(event_log, world, start=before))]
    assert await replay.verify(event_log, database_url) == []
    await asyncio.gather(*checks)
    await projector.stop()


async def test_one_rebuild_at_a_time(event_log: EventLog, database_url: str) -> None:
    await append_all(event_log, lively())
    outcomes = await asyncio.gather(
        *(replay.rebuild(event_log, database_url) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(outcome, (int, RebuildInProgress)) for outcome in outcomes), outcomes
    assert any(isinstance(outcome, int) for outcome in outcomes)
    assert await replay.verify(event_log, database_url) == []


async def test_projectors_that_start_at_once_build_one_read_model(event_log: EventLog, database_url: str) -> None:
    await append_all(event_log, lively())
    projectors = await asyncio.gather(*(Projector.start(event_log, database_url) for _ in range(3)))
    for projector in projectors:
        await projector.stop()
    assert await replay.verify(event_log, database_url) == []


async def test_a_lost_file_comes_back_by_itself(event_log: EventLog, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/read-model.db"
    await append_all(event_log, lively())
    await (await Projector.start(event_log, url)).stop()
    before = all_rows(url)
    for path in tmp_path.glob("read-model.db*"):
        path.unlink()
    await (await Projector.start(event_log, url)).stop()
    assert all_rows(url) == before


@pytest.mark.parametrize("how", ["removed with all beside it", "removed alone", "replaced"])
async def test_a_file_that_is_lost_under_a_projector_is_made_anew_and_read(
    event_log: EventLog, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    url = f"sqlite:///{tmp_path}/read-model.db"
    world = lively()
    await append_all(event_log, world)
    projector = await Projector.start(event_log, url)
    beside = await ReadModel.open(url)
    waiting._horizons[asyncio.get_running_loop()].clear()
    elsewhere = await ReadModel.open(url)  # as in a process of its own
    if how == "replaced":
        fill(f"sqlite:///{tmp_path}/other.db", World().log)
        (tmp_path / "other.db").replace(tmp_path / "read-model.db")
    else:
        for path in tmp_path.glob("read-model.db*" if "all" in how else "read-model.db"):
            path.unlink()
    before = len(world.log)
    new = world.active("after")
    last = await append_all(event_log, world, start=before)
    async with asyncio.timeout(60):
        # Opening it before that would be opening it over what the lost one left.
        while not any("anew from the log" in record.message for record in caplog.records):
            await asyncio.sleep(0.05)
        while not (tmp_path / "read-model.db").exists() or await _at(event_log, url) != last:
            await asyncio.sleep(0.05)
        for read in (beside, elsewhere):
            while await read.server(new) != world.servers[new]:
                await asyncio.sleep(0.05)
    # It follows again, and the rebuild has ended.
    more = world.active("more")
    assert await beside.wait_for(await append_all(event_log, world, start=last), 60)
    assert await beside.server(more) == world.servers[more]
    await beside.close()
    await elsewhere.close()
    await projector.stop()
    assert await replay.verify(event_log, url) == []


async def _at(log: EventLog, url: str) -> int:
    """Where the read model is; 0 while it is being made."""
    try:
        return (await replay.lag(log, url, 0))[0]
    except DBAPIError:
        return 0


async def test_a_read_model_that_is_behind_is_told_apart_from_one_that_is_wrong(
    event_log: EventLog, database_url: str
) -> None:
    world = lively()
    await append_all(event_log, world)
    await replay.rebuild(event_log, database_url)
    behind = len(world.log)
    world.active()
    last = await append_all(event_log, world, start=behind)
    assert await replay.verify(event_log, database_url) == []
    assert await replay.lag(event_log, database_url, 0) == (behind, last)
    waits = asyncio.create_task(replay.lag(event_log, database_url, 60))
    projector = await Projector.start(event_log, database_url)
    assert await waits == (last, last)
    await projector.stop()


async def test_a_damaged_file_is_replaced(event_log: EventLog, tmp_path: Path) -> None:
    path = tmp_path / "read-model.db"
    path.write_bytes(b"this is no database" * 1000)
    await append_all(event_log, lively())
    await (await Projector.start(event_log, f"sqlite:///{path}")).stop()
    assert await replay.verify(event_log, f"sqlite:///{path}") == []


async def test_another_process_that_looks_leaves_what_is_not_in_the_file_yet(
    event_log: EventLog, tmp_path: Path
) -> None:
    """Who opens and closes a file that SQLite has open in this process drops its locks: the next one to look elsewhere
    takes itself for the last, and removes the write-ahead log."""
    path = tmp_path / "read-model.db"
    url = f"sqlite:///{path}"
    last = await append_all(event_log, lively())
    projector = await Projector.start(event_log, url)
    read = await ReadModel.open(url)
    assert await read.wait_for(last, 60)
    look = (
        "import sqlite3, sys; there = sqlite3.connect(sys.argv[1]); "
        "there.execute('select * from positions').fetchall(); there.close()"
    )
    elsewhere = await asyncio.create_subprocess_exec(sys.executable, "-c", look, str(path))
    assert await asyncio.wait_for(elsewhere.wait(), 60) == 0
    assert path.with_name(f"{path.name}-wal").exists()
    await read.close()
    await projector.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a moment")
def test_the_read_model_of_another_user_is_named_and_not_taken_for_none() -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "read-model.db"
        path.touch(mode=0o600)
        Path(name).chmod(0o755)
        engine = connect(f"sqlite:///{path}")
        os.seteuid(65534)
        try:
            with pytest.raises(ReadModelUnavailable, match=f"{path} can not be used"):
                version_of(engine)
        finally:
            os.seteuid(0)
            engine.dispose()


async def test_another_schema_version_is_replaced(event_log: EventLog, database_url: str) -> None:
    await append_all(event_log, lively())
    await replay.rebuild(event_log, database_url)
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text("update schema_info set version = version - 1"))
        connection.execute(text("drop table actions"))
    engine.dispose()
    with pytest.raises(ReadModelUnavailable):
        await ReadModel.open(database_url, timeout=0.1)
    with pytest.raises(ReadModelUnavailable):
        await replay.verify(event_log, database_url)
    await (await Projector.start(event_log, database_url)).stop()
    assert await replay.verify(event_log, database_url) == []


async def test_a_log_with_null_characters_is_followed_and_rebuilt(event_log: EventLog, database_url: str) -> None:
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    world = lively()
    world.log = spelled(world.log, rb"\u0000")
    assert await read.wait_for(await append_all(event_log, world), 60)
    assert {one.name for one in await read.servers(ServerQuery(deleted=None))} >= {"w\ufffdeb-2", "broken"}
    assert await replay.verify(event_log, database_url) == []
    await read.close()
    await projector.stop()
    before = all_rows(database_url)
    await replay.rebuild(event_log, database_url)
    assert all_rows(database_url) == before


async def test_the_read_model_of_another_log_is_replaced(event_log: EventLog, database_url: str) -> None:
    other = World()
    other.change("flavor", name="not in this log", vcpus=1, ram=1, disk=1)
    fill(database_url, other.log)
    await append_all(event_log, lively())
    await (await Projector.start(event_log, database_url)).stop()
    assert await replay.verify(event_log, database_url) == []


async def test_a_reader_in_another_process_learns_the_position(event_log: EventLog, database_url: str) -> None:
    projector = await Projector.start(event_log, database_url)
    # As in a process of its own: a horizon that no projector here moves.
    waiting._horizons[asyncio.get_running_loop()].clear()
    told = await ReadModel.open(database_url, nats=event_log.nc)
    waiting._horizons[asyncio.get_running_loop()].clear()
    looking = await ReadModel.open(database_url)
    last = await append_all(event_log, lively())
    assert await told.wait_for(last, 60)
    assert await looking.wait_for(last, 60)
    await told.close()
    await looking.close()
    await projector.stop()


async def test_a_sole_reader_in_another_process_shows_what_was_answered(event_log: EventLog, database_url: str) -> None:
    world = lively()
    await append_all(event_log, world)
    with pytest.raises(ReadModelUnavailable, match="no projector"):
        await ReadModel.open(database_url, nats=event_log.nc, timeout=0.3, sole_reader=True)
    fill(database_url, World().log)  # tables, but of another log, and nobody who would make them fit
    with pytest.raises(ReadModelUnavailable, match="no projector"):
        await ReadModel.open(database_url, nats=event_log.nc, timeout=0.3, sole_reader=True)
    projector = await Projector.start(event_log, database_url)
    waiting._horizons[asyncio.get_running_loop()].clear()
    reader = await ReadModel.open(database_url, nats=event_log.nc, sole_reader=True)
    for number in range(20):
        before = len(world.log)
        new = world.active(f"new-{number}")
        last = await append_all(event_log, world, start=before)
        await reader.shown(last, 60)
        assert await reader.server(new) == world.servers[new]
    await reader.close()
    await projector.stop()


async def test_what_a_rebuild_took_back_comes_again_without_another_commit(
    event_log: EventLog, database_url: str
) -> None:
    world = lively()
    await append_all(event_log, world)
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    before = len(world.log)
    new = world.create("in the last moment of a rebuild")
    last = await append_all(event_log, world, start=before)
    assert await read.wait_for(last, 60)
    earlier = await event_log.at(last - 1)
    assert earlier is not None
    engine = connect(database_url)  # tables that were built without the newest commit take the place of these
    with engine.begin() as connection:
        connection.execute(text("delete from servers where id = :id"), {"id": new})
        place = {"position": earlier.position, "hash": earlier.hash}
        connection.execute(text("update positions set position = :position, hash = :hash where name = 'log'"), place)
    engine.dispose()
    async with asyncio.timeout(60):
        while await read.server(new) is None:
            await asyncio.sleep(0.05)
    await read.close()
    await projector.stop()


async def test_broken_connections_are_replaced(event_log: EventLog, postgres: Postgres) -> None:
    url = postgres.database()
    world = lively()
    projector = await Projector.start(event_log, url)
    read = await ReadModel.open(url)
    await append_all(event_log, world)
    assert await read.wait_for(len(world.log), 60)
    id, server = next(iter(world.servers.items()))
    for _ in range(3):
        engine = connect(postgres.url("postgres"))
        with engine.begin() as connection:
            connection.execute(
                text("select pg_terminate_backend(pid) from pg_stat_activity where datname = :name"),
                {"name": make_url(url).database},
            )
        engine.dispose()
        assert await read.server(id) == server
        assert len(await read.servers(ServerQuery(deleted=None))) == len(world.servers)
        before = len(world.log)
        world.active()
        last = await append_all(event_log, world, start=before)
        assert await read.wait_for(last, 60)
    await projector.stop()
    await read.close()
    assert await replay.verify(event_log, url) == []


async def test_a_commit_that_can_not_be_folded_stops_the_projector_loudly(
    event_log: EventLog, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    projector = await Projector.start(event_log, database_url)
    world = World()
    world.active()
    last = await append_all(event_log, world)
    await event_log.append(
        "server",
        "not-a-server",
        expected=None,
        events=[Event("server.x.y")],
        state=b"[]",
        meta=world.log[0].commit.meta,
    )
    with pytest.raises(msgspec.ValidationError):
        await asyncio.wait_for(projector.failed, 60)
    assert projector.position <= last
    assert "the projector stopped" in caplog.text
    await projector.stop()
