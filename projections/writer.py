"""Writing changed rows: one transaction per batch, with the position in it.

The position moves by compare-and-set, so a batch is applied exactly once however often it is delivered, and of two
projectors on one database the slower one is told (`Fenced`) instead of writing over the other's rows.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.engine.interfaces import DBAPICursor

from eventlog.envelope import Recorded
from projections.database import LOCK_SECONDS, Statements
from projections.fold import ActionKey, Changes, Fold, Row
from projections.fold_actions import ActionFold, ActionRecord, StepFold
from projections.schema import LOG, action_steps, actions, events, positions, resources, servers

# SQLite's log is copied into its file after about so many pages (of 4 KiB), by `checkpoint`; a batch writes some ten
# pages and about one more per commit.
CHECKPOINT_PAGES = 8000
PAGES_PER_BATCH = 10


class Fenced(Exception):
    """Another projector, or a finished rebuild, moved the position."""


class Writer:
    """Applies commits to one database. Used by one thread at a time; `position` is the last one applied.

    Rows go through the driver's cursor: SQLAlchemy's bookkeeping would be a fifth of the cost of a lone commit. The
    errors of `driver_error` can therefore come out of it as well as SQLAlchemy's.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        assert engine.dialect.loaded_dbapi is not None
        self.driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._statements = Statements(engine.dialect)
        self._connection: Connection | None = None
        self._fold = Fold(self)
        self._pages = 0
        self._lock_seconds = -1  # how long the connection waits for another one's lock; -1: not told yet
        self.position = 0
        self.hash: str | None = None

    def load(self) -> int:
        """Take the position from the database and forget what was folded. Call first, and after any error."""
        self.close()
        self._connection = self._engine.connect()
        self._fold = Fold(self)
        self._lock_seconds = -1
        if self.is_sqlite:
            self._pragma("wal_autocheckpoint=0")
        self.position, self.hash = self._found(self._connection)
        return self.position

    def must_be_in_place(self) -> None:
        """Raise Fenced if the tables are not where this writer left them: a batch would find that out, later."""
        if self._connection is not None and self._found(self._connection) != (self.position, self.hash):
            raise Fenced(f"the position is not {self.position} any more")

    def _found(self, connection: Connection) -> tuple[int, str | None]:
        wanted = positions.select().with_only_columns(positions.c.position, positions.c.hash)
        with connection.begin():
            position, digest = connection.execute(wanted.where(positions.c.name == LOG)).one()
        return position, digest

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def apply_at_once(self, batch: list[Recorded]) -> int | None:
        """As `apply`, on SQLite; None instead of waiting while another connection writes."""
        if self._connection is None:
            return None
        self._wait_for_locks(0)
        try:
            return self._apply(batch)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return None

    @property
    def checkpoint_due(self) -> bool:
        return self.is_sqlite and self._pages > CHECKPOINT_PAGES

    def checkpoint(self) -> None:
        """Copy SQLite's log into its file, which waits for the disk: between two batches, where nobody waits for it."""
        self._open_connection()
        self._pragma("wal_checkpoint(passive)")
        self._pages = 0

    def _wait_for_locks(self, seconds: int) -> None:
        if self.is_sqlite and seconds != self._lock_seconds:
            self._pragma(f"busy_timeout={seconds * 1000}")
            self._lock_seconds = seconds

    def _pragma(self, text: str) -> None:
        assert self._connection is not None
        driver: Any = self._connection.connection.driver_connection
        driver.execute(f"pragma {text}").close()

    def apply(self, batch: list[Recorded]) -> int:
        """Write what a batch changed; commits that are already in are left out. Returns the position. Raises Fenced."""
        self._open_connection()
        self._wait_for_locks(LOCK_SECONDS)
        return self._apply(batch)

    def _apply(self, batch: list[Recorded]) -> int:
        connection = self._open_connection()
        fresh = [recorded for recorded in batch if recorded.position > self.position]
        if not fresh:
            return self.position
        try:
            with connection.begin():
                cursor = connection.connection.cursor()
                self._advance(cursor, fresh[-1])
                for recorded in fresh:
                    self._fold.add(recorded)
                self._write(cursor, self._fold.take())
                cursor.close()
        except BaseException:
            self.close()  # the fold is ahead of the database: the next call loads again
            raise
        self.position, self.hash = fresh[-1].position, fresh[-1].hash
        self._pages += PAGES_PER_BATCH + len(fresh)
        return self.position

    def _open_connection(self) -> Connection:
        if self._connection is None:
            self.load()
        assert self._connection is not None
        return self._connection

    def _advance(self, cursor: DBAPICursor, last: Recorded) -> None:
        sql = self._statements.text("update positions set position=?, hash=? where name=? and position=?")
        cursor.execute(sql, (last.position, last.hash, LOG, self.position))
        if cursor.rowcount != 1:
            raise Fenced(f"the position is not {self.position} any more")

    def _write(self, cursor: DBAPICursor, changes: Changes) -> None:
        self._upsert(cursor, servers, changes.servers)
        self._place(cursor, changes.placement)
        self._upsert(cursor, actions, changes.actions)
        self._upsert(cursor, action_steps, changes.action_steps)
        self._upsert(cursor, resources, changes.resources)
        self._upsert(cursor, events, changes.events)

    def _upsert(self, cursor: DBAPICursor, table: Table, rows: list[Row]) -> None:
        if len(rows) == 1:
            cursor.execute(self._statements.upsert(table), rows[0])
        elif rows:
            cursor.executemany(self._statements.upsert(table), rows)

    def _place(self, cursor: DBAPICursor, placement: dict[str, tuple[Row, ...]]) -> None:
        if not placement:
            return
        text = self._statements.text
        cursor.executemany(text("delete from placement where server_id=?"), [(id,) for id in placement])
        rows = [row for placed in placement.values() for row in placed]
        if rows:
            cursor.executemany(text("insert into placement values (?,?,?,?,?,?)"), rows)

    # What the fold asks for: rows of earlier batches.

    def action(self, key: ActionKey) -> ActionFold | None:
        sql = self._statements.text(
            "select * from actions where request_id=? and server_id=? and command=? order by id desc limit 1"
        )
        found = self._rows(sql, (key[1], key[0], key[2]))
        if not found:
            return None
        record = ActionRecord(*found[0])
        steps = self._rows(
            self._statements.text("select * from action_steps where action_id=? order by number"), (record.id,)
        )
        return ActionFold(record, [StepFold(*row) for row in steps])

    def vm_state(self, server_id: str) -> str | None:
        found = self._rows(self._statements.text("select vm_state from servers where id=?"), (server_id,))
        return found[0][0] if found else None

    def _rows(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        return list(self._open_connection().exec_driver_sql(sql, parameters).all())
