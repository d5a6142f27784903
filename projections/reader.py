"""Connections for reading: where queries run, and in which thread.

A point read in SQLite costs a few microseconds, a hop to another thread fifty; so small reads of SQLite run where they
are asked for, on a connection of their own, and all others in a small pool of threads. Every statement sees the newest
committed rows. A connection that broke is replaced and the read tried once more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

READ_THREADS = 4


class Reader:
    """Runs functions of a connection. Safe to use from the event loop only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inline = engine.dialect.name == "sqlite"
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read-model")
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._lock = threading.Lock()

    async def small(self, read: Callable[[Connection], T]) -> T:
        """A read of a few rows by key."""
        if self._inline:
            return self._run(read)
        return await self.large(read)

    async def large(self, read: Callable[[Connection], T]) -> T:
        """Any other read."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, read)

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()
        self._engine.dispose()

    def _run(self, read: Callable[[Connection], T]) -> T:
        try:
            return read(self._connection())
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._local.connection = None
            return read(self._connection())

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection


def rows(connection: Connection, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
    return list(connection.exec_driver_sql(sql, parameters).all())
