"""The database of the read models: SQLite (WAL) or PostgreSQL, chosen by URL.

On PostgreSQL the tables live in a schema of their own (`chronova`), found by search path, so that a rebuild can make a
second set of them and swap it in by renaming. On SQLite a rebuild is a second file, copied into the live one in one
transaction; readers with an open connection see the old rows until then and the new ones after.
"""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import re2  # type: ignore[import-untyped]  # the package has no type information
from sqlalchemy import Connection, Dialect, Engine, Table, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from projections.schema import LOG, REJECTIONS, SCHEMA_VERSION, metadata, positions, schema_info

SCHEMA = "chronova"
# How long a statement may wait for another process's lock, and a query may run.
LOCK_SECONDS = 30
QUERY_SECONDS = 30
PatternError: type[Exception] = re2.error
SQLITE_CACHE_KIB = 65_536
SQLITE_MAP_BYTES = 1 << 30


class ReadModelUnavailable(Exception):
    """There is no read model of this version at this URL (yet), or it can not be used for this now."""


def parse(url: str) -> URL:
    """The URL with its driver; `postgresql://` means psycopg 3. Raises ValueError for another database."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(str(error)) from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("the read model needs a file: several connections read it")
        return parsed
    if parsed.drivername != "postgresql+psycopg":
        raise ValueError(f"no read model on {parsed.drivername}: use sqlite or postgresql")
    return parsed


def must_answer(url: str, seconds: int) -> None:
    """Raises ReadModelUnavailable if its file can not be made, or its server lets nobody in within the time."""
    parsed = parse(url)
    if parsed.get_backend_name() == "sqlite":
        _must_be_writable(Path(parsed.database or "").absolute())
        return
    engine = create_engine(parsed, connect_args={"connect_timeout": seconds})
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        first = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ReadModelUnavailable(f"no database answers at {parsed.render_as_string()} ({first}): start it") from error
    finally:
        engine.dispose()


def _must_be_writable(file: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=file.parent):  # SQLite makes files beside it
            pass
    except OSError as error:
        why = error.strerror or str(error)
        raise ReadModelUnavailable(
            f"the directory {file.parent} of the database can not be written ({why}): make it"
        ) from error
    if file.is_dir() or (file.exists() and not os.access(file, os.R_OK | os.W_OK)):
        raise ReadModelUnavailable(f"the database {file} can not be written: it has to be a file of ours")


def name_of(url: str) -> str:
    """A name for the read model at a URL, the same in every process that uses it. Holds no secret."""
    parsed = parse(url)
    if parsed.get_backend_name() == "sqlite":
        parsed = parsed.set(database=os.path.abspath(parsed.database or ""))
    return sha256(parsed.set(password=None).render_as_string().encode()).hexdigest()[:16]


def connect(url: str | URL, *, schema: str = SCHEMA, durable: bool = True, pool_size: int = 5) -> Engine:
    """An engine. `durable=False` is for tables that are thrown away if building them fails."""
    parsed = parse(url) if isinstance(url, str) else url
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, pool_size=pool_size, connect_args={"timeout": LOCK_SECONDS})
        event.listen(engine, "connect", _sqlite_settings(durable))
        return engine
    # Commits need not reach the disk: what a crash loses is written again from the log.
    options = f"-c search_path={schema} -c synchronous_commit=off"
    if durable:
        options += f" -c statement_timeout={QUERY_SECONDS}s -c lock_timeout={LOCK_SECONDS}s"
    return create_engine(parsed, pool_size=pool_size, pool_pre_ping=True, connect_args={"options": options})


def _sqlite_settings(durable: bool) -> Any:
    def on_connect(connection: Any, _: Any) -> None:
        connection.create_function("regexp", 2, _matches, deterministic=True)
        # A power cut may lose the newest transactions, never the file: the projector writes them again from the log.
        connection.execute("pragma journal_mode=wal" if durable else "pragma journal_mode=off")
        connection.execute("pragma synchronous=normal" if durable else "pragma synchronous=off")
        connection.execute(f"pragma cache_size=-{SQLITE_CACHE_KIB}")
        connection.execute(f"pragma mmap_size={SQLITE_MAP_BYTES}")
        connection.execute("pragma wal_autocheckpoint=4000")

    return on_connect


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """A pattern that a user gave. RE2 takes linear time whatever the pattern; Python's `re` would not."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)


def _matches(pattern: str, value: str | None) -> bool | None:
    return None if value is None else compiled(pattern).search(value) is not None


def create_tables(connection: Connection, *, indexes: bool = True) -> None:
    """Make the tables in an empty database or schema, at position 0."""
    for table in metadata.sorted_tables:
        kept, table_indexes = set(table.indexes), table.indexes
        table_indexes.clear()
        try:
            table.create(connection)
        finally:
            table_indexes.update(kept)
    if indexes:
        create_indexes(connection)
    connection.execute(schema_info.insert().values(version=SCHEMA_VERSION))
    connection.execute(positions.insert(), [{"name": name, "position": 0, "hash": None} for name in (LOG, REJECTIONS)])


def create_indexes(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        for index in sorted(table.indexes, key=lambda one: str(one.name)):
            index.create(connection)


def version_of(engine: Engine) -> int | None:
    """The schema version that is there; None if there is none. Raises ReadModelUnavailable for somebody else's file."""
    if engine.dialect.name == "sqlite":
        # Only looked at: a file that is opened and closed loses all the locks that SQLite has on it in this process.
        path = engine.url.database or ""
        if not os.access(path, os.F_OK, effective_ids=True):
            return None
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise ReadModelUnavailable(
                f"the read model {path} can not be used (it may not be read and written): run this as its owner, "
                "or give it to the user who runs chronova"
            )
        if not os.path.isfile(path):
            raise ReadModelUnavailable(f"the read model {path} has to be a file and is none: move it away")
    with engine.connect() as connection:
        if "schema_info" not in inspect(connection).get_table_names(schema=_schema_of(engine)):
            return None
        return connection.execute(schema_info.select()).scalar_one_or_none()


def _schema_of(engine: Engine) -> str | None:
    return SCHEMA if engine.dialect.name == "postgresql" else None


class Statements:
    """SQL as text for one dialect, made once per statement: on the hot paths making it costs more than running it."""

    def __init__(self, dialect: Dialect) -> None:
        self._mark = "?" if dialect.paramstyle == "qmark" else "%s"
        self.text = lru_cache(maxsize=None)(self._text)
        self.upsert = lru_cache(maxsize=None)(self._upsert)

    def _text(self, sql: str) -> str:
        return sql.replace("?", self._mark)

    def _upsert(self, table: Table) -> str:
        names = [column.name for column in table.columns]
        keys = [column.name for column in table.primary_key]
        changes = ",".join(f"{name}=excluded.{name}" for name in names if name not in keys)
        return (
            f"insert into {table.name} ({','.join(names)}) values ({','.join([self._mark] * len(names))}) "
            f"on conflict ({','.join(keys)}) do update set {changes}"
        )
