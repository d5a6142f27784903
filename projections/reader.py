"""Connections for reading: where queries run, and in which thread.

A point read in SQLite costs a few microseconds, a hop to another thread fifty; so small reads of SQLite run where they
are asked for, on a connection of their own, and all others in a small pool of threads. Every statement sees the newest
committed rows. A connection that broke is replaced and the read tried once more; after `renew` all of them are.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, Select
from sqlalchemy.exc import DBAPIError

from projections.database import ReadModelUnavailable

T = TypeVar("T")

READ_THREADS = 4


class ReadConnection:
    """One connection of one thread."""

    def __init__(self, connection: Connection, generation: int) -> None:
        self.generation = generation
        self._connection = connection
        self._driver: Any = connection.connection.driver_connection

    def rows(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        """All rows of a statement given as text: past SQLAlchemy, whose bookkeeping costs more than a point read."""
        found: list[Any] = self._driver.execute(sql, parameters).fetchall()
        return found

    def select(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        return self._connection.execute(statement).all()

    def is_broken_by(self, error: BaseException) -> bool:
        if isinstance(error, DBAPIError):
            return error.connection_invalidated
        return self._connection.dialect.is_disconnect(error, self._driver, None)  # type: ignore[arg-type]  # any error may be asked about

    def close(self) -> None:
        self._connection.close()

    def discard(self) -> None:
        self._connection.invalidate()


class _Broken(Exception):
    """A connection broke under a read: it is let go, and another one may do."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Reader:
    """Runs functions of a connection. Safe to use from the event loop only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        assert engine.dialect.loaded_dbapi is not None
        self._driver_error = engine.dialect.loaded_dbapi.Error
        self._inline = engine.dialect.name == "sqlite"
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read-model")
        self._local = threading.local()
        self._connections: list[ReadConnection] = []
        self._lock = threading.Lock()
        self._generation = 0

    async def small(self, read: Callable[[ReadConnection], T]) -> T:
        """A read of a few rows by key."""
        if self._inline:
            return self._run(read)
        return await self.large(read)

    async def large(self, read: Callable[[ReadConnection], T]) -> T:
        """Any other read."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, read)

    def renew(self) -> None:
        """Open every connection anew before it is used again: what they were opened on is another file now."""
        self._generation += 1

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()
        self._engine.dispose()

    def _run(self, read: Callable[[ReadConnection], T]) -> T:
        """Raises ReadModelUnavailable when a second connection breaks as well, or none can be made."""
        try:
            return self._once(read)
        except _Broken:
            pass
        try:
            return self._once(read)
        except _Broken as broken:
            raise _away(broken.error) from broken.error

    def _once(self, read: Callable[[ReadConnection], T]) -> T:
        connection = self._connection()
        try:
            return read(connection)
        except (DBAPIError, self._driver_error) as error:
            if not connection.is_broken_by(error):
                raise
            connection.discard()
            self._local.connection = None
            raise _Broken(error) from error

    def _connection(self) -> ReadConnection:
        connection: ReadConnection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.generation != self._generation:
            connection.discard()
            connection = None
        if connection is None:
            generation = self._generation
            try:
                opened = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            except DBAPIError as error:
                raise _away(error) from error
            connection = ReadConnection(opened, generation)
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection


def _away(error: Exception) -> ReadModelUnavailable:
    what = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
    return ReadModelUnavailable(f"the database of the read model does not answer: {what[0] if what else '?'}")
