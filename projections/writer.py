"""Writing changed rows: one transaction per batch, with the position in it.

The position moves by compare-and-set, so a batch is applied exactly once however often it is delivered, and of two
projectors on one database the slower one is told (`Fenced`) instead of writing over the other's rows.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, Table

from eventlog.envelope import Recorded
from projections.database import Statements
from projections.fold import ActionKey, Changes, Fold, Row
from projections.fold_actions import ActionFold, ActionRecord, StepFold
from projections.schema import LOG, action_steps, actions, events, positions, resources, servers


class Fenced(Exception):
    """Another projector, or a finished rebuild, moved the position."""


class Writer:
    """Applies commits to one database. Used by one thread at a time; `position` is the last one applied."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._statements = Statements(engine.dialect)
        self._connection: Connection | None = None
        self._fold = Fold(self)
        self.position = 0
        self.hash: str | None = None

    def load(self) -> int:
        """Take the position from the database and forget what was folded. Call first, and after any error."""
        self.close()
        self._connection = self._engine.connect()
        self._fold = Fold(self)
        with self._connection.begin():
            row = self._connection.execute(
                positions.select()
                .with_only_columns(positions.c.position, positions.c.hash)
                .where(positions.c.name == LOG)
            ).one()
        self.position, self.hash = row
        return self.position

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def apply(self, batch: list[Recorded]) -> int:
        """Write what a batch changed; commits that are already in are left out. Returns the position. Raises Fenced."""
        connection = self._open_connection()
        fresh = [recorded for recorded in batch if recorded.position > self.position]
        if not fresh:
            return self.position
        try:
            with connection.begin():
                self._advance(connection, fresh[-1])
                for recorded in fresh:
                    self._fold.add(recorded)
                self._write(connection, self._fold.take())
        except BaseException:
            self.close()  # the fold is ahead of the database: the next call loads again
            raise
        self.position, self.hash = fresh[-1].position, fresh[-1].hash
        return self.position

    def _open_connection(self) -> Connection:
        if self._connection is None:
            self.load()
        assert self._connection is not None
        return self._connection

    def _advance(self, connection: Connection, last: Recorded) -> None:
        sql = self._statements.text("update positions set position=?, hash=? where name=? and position=?")
        if connection.exec_driver_sql(sql, (last.position, last.hash, LOG, self.position)).rowcount != 1:
            raise Fenced(f"the position is not {self.position} any more")

    def _write(self, connection: Connection, changes: Changes) -> None:
        self._upsert(connection, servers, changes.servers)
        self._place(connection, changes.placement)
        self._upsert(connection, actions, changes.actions)
        self._upsert(connection, action_steps, changes.action_steps)
        self._upsert(connection, resources, changes.resources)
        self._upsert(connection, events, changes.events)

    def _upsert(self, connection: Connection, table: Table, rows: list[Row]) -> None:
        if rows:
            connection.exec_driver_sql(self._statements.upsert(table), rows)

    def _place(self, connection: Connection, placement: dict[str, tuple[Row, ...]]) -> None:
        if not placement:
            return
        text = self._statements.text
        connection.exec_driver_sql(text("delete from placement where server_id=?"), [(id,) for id in placement])
        rows = [row for placed in placement.values() for row in placed]
        if rows:
            connection.exec_driver_sql(text("insert into placement values (?,?,?,?,?,?)"), rows)

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
