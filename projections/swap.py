"""A second set of tables beside the live ones, and how it takes their place.

SQLite: a second file, copied page by page into the live file within one transaction of it. PostgreSQL: a second schema,
renamed in one transaction. Either way a reader sees the old rows or the new ones, never a mixture and never nothing.
What an interrupted rebuild left behind is removed by the next one.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from projections.database import LOCK_SECONDS, SCHEMA, ReadModelUnavailable, connect, create_tables

# The key of PostgreSQL's advisory lock that keeps rebuilds apart: the first bytes of "chronova" as a number.
ADVISORY_LOCK = 0x6368726F


class RebuildInProgress(ReadModelUnavailable):
    """Another process is rebuilding or verifying this read model."""


@contextmanager
def second_database(live: URL, purpose: str) -> Iterator[Engine]:
    """An engine on empty tables without indexes beside those at `live`; gone afterwards. Raises RebuildInProgress."""
    make = _second_file if live.get_backend_name() == "sqlite" else _second_schema
    with make(live, purpose) as engine:
        with engine.begin() as connection:
            create_tables(connection, indexes=False)
        yield engine


@contextmanager
def _second_file(live: URL, purpose: str) -> Iterator[Engine]:
    path = Path(f"{live.database}.{purpose}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{live.database}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RebuildInProgress(
                f"{live.database} is being rebuilt or verified: wait until that has ended"
            ) from error
        _remove(path)
        engine = connect(live.set(database=str(path)), durable=False)
        try:
            yield engine
        finally:
            engine.dispose()
            _remove(path)


def _remove(path: Path) -> None:
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}-journal")):
        with suppress(FileNotFoundError):
            name.unlink()


@contextmanager
def _second_schema(live: URL, purpose: str) -> Iterator[Engine]:
    schema = f"{SCHEMA}_{purpose}"
    owner = connect(live)
    engine = connect(live, schema=schema, durable=False)
    try:
        with owner.connect() as connection:
            if not connection.execute(text("select pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}).scalar():
                raise RebuildInProgress("this read model is being rebuilt or verified: wait until that has ended")
            connection.execute(text(f"drop schema if exists {schema} cascade"))
            connection.execute(text(f"create schema {schema}"))
            connection.commit()
            try:
                yield engine
            finally:
                engine.dispose()
                connection.execute(text(f"drop schema if exists {schema} cascade"))
                connection.execute(text("select pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
                connection.commit()
    finally:
        engine.dispose()
        owner.dispose()


def swap_in(second: Engine, live: URL) -> None:
    """Put the second tables in the place of the live ones."""
    if second.dialect.name == "sqlite":
        _copy_file(second, live)
    else:
        _rename_schema(second)


def _copy_file(second: Engine, live: URL) -> None:
    source_path, live_path = second.url.database, live.database
    assert source_path is not None
    assert live_path is not None
    second.dispose()
    if not Path(live_path).exists():
        _remove(Path(live_path))  # the log that a removed file left is not the new one's
    with closing(sqlite3.connect(source_path)) as source:
        try:
            _copy_into(source, live_path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # The live file is no database (any more), so nobody can be reading it.
            _remove(Path(live_path))
            _copy_into(source, live_path)


def _copy_into(source: sqlite3.Connection, live_path: str) -> None:
    with closing(sqlite3.connect(live_path, timeout=LOCK_SECONDS)) as target:
        target.execute("pragma journal_mode=wal")
        source.backup(target)
        target.execute("pragma wal_checkpoint(passive)")


def _rename_schema(second: Engine) -> None:
    with second.begin() as connection:
        building = connection.execute(text("select current_schema()")).scalar_one()
        connection.execute(text(f"set local lock_timeout = '{LOCK_SECONDS}s'"))
        connection.execute(text(f"drop schema if exists {SCHEMA} cascade"))
        connection.execute(text(f"alter schema {building} rename to {SCHEMA}"))
