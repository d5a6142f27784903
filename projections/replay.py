"""Rebuilding the read models from the log, and proving that the live ones are equal to a rebuild.

A rebuild never touches the live tables until it is complete: it fills a second set of them (a file beside the SQLite
file, a second PostgreSQL schema), catches up, and swaps it in within one transaction. A projector that is running
meanwhile finds its position moved and goes on from the new one. One rebuild or verification at a time per read model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from eventlog.log import EventLog
from projections import compare_rejections
from projections.compare import Difference, differences, place_of, position_of, snapshot
from projections.database import ReadModelUnavailable, connect, create_indexes, parse, version_of
from projections.schema import LOG, REJECTIONS, SCHEMA_VERSION
from projections.swap import second_database, swap_in
from projections.writer import Writer

T = TypeVar("T")
Progress = Callable[[int, int], None]  # commits done, commits in all

# Rounds of catching up with a log that grows during a rebuild before the rest is left to the projector.
CATCH_UP_ROUNDS = 5
NONE_YET = "there is none yet"
MAX_DIFFERENCES = 20
LAG_PAUSE_SECONDS = 0.1


async def unfit(log: EventLog, url: str) -> str:
    """Why the read model can not be continued and has to be rebuilt; empty if it can."""
    engine = connect(url)
    try:
        version = await asyncio.to_thread(_version, engine)
        if version != SCHEMA_VERSION:
            return NONE_YET if version is None else f"its schema is version {version}, not {SCHEMA_VERSION}"
        try:
            position, digest = await asyncio.to_thread(_position, engine)
        except ReadModelUnavailable as error:
            return str(error)
    finally:
        engine.dispose()
    if position == 0:
        return ""
    recorded = await log.at(position)
    if recorded is None or recorded.hash != digest:
        return f"the log holds another commit at position {position}"
    return ""


def _version(engine: Engine) -> int | None:
    try:
        return version_of(engine)
    except DatabaseError:
        return None  # not a database, or a damaged one: it is replaced


def _position(engine: Engine) -> tuple[int, str | None]:
    with engine.connect() as connection:
        place_of(connection, REJECTIONS)  # that it is there, too
        return place_of(connection, LOG)


async def rebuild(log: EventLog, url: str, progress: Progress | None = None) -> int:
    """Build the read models anew and swap them in. Returns the position they are at."""
    async with _second(url, "building") as second:
        writer = await second.writer()
        await _replay(log, writer, second, await log.last_position(), progress)
        await second.run(lambda: _add_indexes(second.engine))
        for _ in range(CATCH_UP_ROUNDS):
            last = await log.last_position()
            if last == writer.position:
                break
            await _replay(log, writer, second, last, progress)
        await second.run(writer.close)
        await second.run(lambda: swap_in(second.engine, parse(url)))
        return writer.position


async def lag(log: EventLog, url: str, seconds: float) -> tuple[int, int]:
    """The positions of the read model and of the log, after waiting at most `seconds` for the first to reach the other.

    What the log gains while it is waited for does not count: the read model has to reach where the log is now.
    """
    wanted = await log.last_position()
    deadline = asyncio.get_running_loop().time() + seconds
    engine = connect(url)
    try:
        while (position := (await asyncio.to_thread(_position, engine))[0]) < wanted:
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(LAG_PAUSE_SECONDS)
        return position, wanted
    finally:
        engine.dispose()


async def verify(log: EventLog, url: str, progress: Progress | None = None) -> list[Difference]:
    """Compare the live rows with a fresh fold of the log up to the same position. Empty: byte-equal.

    The refusals are compared with their stream, and what says how far the rows reach with the commit there. At most the
    first `MAX_DIFFERENCES` are returned. Whether that position is the log's own is for `lag` to say.
    Raises ReadModelUnavailable when there is nothing to compare.
    """
    live = connect(url)
    try:
        if await asyncio.to_thread(_version, live) != SCHEMA_VERSION:
            raise ReadModelUnavailable("there is no read model of this version: run `chronova replay`")
        async with _second(url, "verifying") as second:
            connection = await second.run(lambda: snapshot(live))
            try:
                writer = await second.writer()
                try:
                    await _replay(log, writer, second, await second.run(lambda: position_of(connection)), progress)
                finally:
                    await second.run(writer.close)
                found = await second.run(lambda: differences(connection, second.engine, MAX_DIFFERENCES))
                if len(found) < MAX_DIFFERENCES:
                    rest = MAX_DIFFERENCES - len(found)
                    found += await compare_rejections.differences(log, second.run, connection, rest)
                return found
            finally:
                await second.run(connection.close)
    finally:
        live.dispose()


class _Second:
    """A second set of tables and the one thread that works on it."""

    def __init__(self, engine: Engine, thread: ThreadPoolExecutor) -> None:
        self.engine = engine
        self._thread = thread

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def writer(self) -> Writer:
        writer = Writer(self.engine)
        await self.run(writer.load)
        return writer


@asynccontextmanager
async def _second(url: str, purpose: str) -> AsyncIterator[_Second]:
    with ThreadPoolExecutor(1, thread_name_prefix=purpose) as thread:
        loop = asyncio.get_running_loop()
        place = second_database(parse(url), purpose)
        engine = await loop.run_in_executor(thread, place.__enter__)
        try:
            yield _Second(engine, thread)
        finally:
            await loop.run_in_executor(thread, lambda: place.__exit__(None, None, None))


async def _replay(log: EventLog, writer: Writer, second: _Second, upto: int, progress: Progress | None) -> None:
    # One batch is written while the next one is read.
    writing: asyncio.Future[int] | None = None
    async for batch in log.scan(writer.position, upto=upto):
        if writing is not None:
            await writing
        writing = asyncio.ensure_future(second.run(partial(writer.apply, batch)))
        if progress is not None:
            progress(batch[-1].position, upto)
    if writing is not None:
        await writing


def _add_indexes(engine: Engine) -> None:
    with engine.begin() as connection:
        create_indexes(connection)
