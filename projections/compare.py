"""Comparing two sets of read-model tables row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, select

from projections.database import ReadModelUnavailable
from projections.schema import LOG, LOG_TABLES, positions

ROWS_AT_ONCE = 2000

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Difference:
    """Where the live row is not the rebuilt one. `column` is empty when only one of them has the row.

    `giver`: what the rebuilt one was made from.
    """

    table: str
    key: Row
    column: str
    live: Any
    rebuilt: Any
    giver: str = "the log"

    def __str__(self) -> str:
        row = f"{self.table} {'/'.join(map(str, self.key))}"
        if self.column:
            return f"{row}: {self.column} is {self.live!r}, {self.giver} gives {self.rebuilt!r}"
        if self.rebuilt is None:
            return f"{row}: {self.giver} gives no such row"
        return f"{row}: missing, {self.giver} gives it"


def snapshot(live: Engine) -> Connection:
    """A connection that sees the live tables as they are now, whatever is written meanwhile.

    Raises ReadModelUnavailable when they do not say how far they have come.
    """
    if live.dialect.name == "postgresql":
        connection = live.connect().execution_options(isolation_level="REPEATABLE READ")
    else:
        connection = live.connect()
        connection.exec_driver_sql("begin")
    try:
        position_of(connection)
    except ReadModelUnavailable:
        connection.close()
        raise
    return connection


def position_of(connection: Connection) -> int:
    return place_of(connection, LOG)[0]


def place_of(connection: Connection, name: str) -> tuple[int, str | None]:
    """How far the tables have come, in the log or in the stream of refusals: position, and the commit's hash."""
    row = connection.execute(positions.select().where(positions.c.name == name)).one_or_none()
    if row is None:
        raise ReadModelUnavailable(
            f"the read model does not say how far it has come (positions has no row {name}): run `chronova replay`"
        )
    return row.position, row.hash


def differences(live: Connection, rebuilt: Engine, limit: int) -> list[Difference]:
    """The first differences: where it stands in the log, then table by table in the order of keys."""
    with rebuilt.connect() as connection:
        have, want = place_of(live, LOG), place_of(connection, LOG)
        found = [
            Difference("positions", (LOG,), column, mine, other)
            for column, mine, other in zip(("position", "hash"), have, want, strict=True)
            if mine != other
        ]
        for table in LOG_TABLES:
            for difference in _table_differences(table, live, connection):
                found.append(difference)
                if len(found) == limit:
                    return found
    return found


def _table_differences(table: Table, live: Connection, rebuilt: Connection) -> Iterator[Difference]:
    keys = [column.name for column in table.primary_key]
    places = [table.columns.keys().index(name) for name in keys]
    left, right = _rows(table, live), _rows(table, rebuilt)
    mine, other = next(left, None), next(right, None)
    while mine is not None or other is not None:
        my_key = None if mine is None else tuple(mine[place] for place in places)
        other_key = None if other is None else tuple(other[place] for place in places)
        if other_key is None or (my_key is not None and my_key < other_key):
            assert my_key is not None
            yield Difference(table.name, my_key, "", mine, None)
            mine = next(left, None)
        elif my_key is None or other_key < my_key:
            yield Difference(table.name, other_key, "", None, other)
            other = next(right, None)
        else:
            if mine != other:
                assert mine is not None
                assert other is not None
                for column, have, want in zip(table.columns.keys(), mine, other, strict=True):
                    if have != want:
                        yield Difference(table.name, my_key, column, have, want)
            mine, other = next(left, None), next(right, None)


def _rows(table: Table, connection: Connection) -> Iterator[Row]:
    # Keyset pages instead of one result: psycopg would hold a whole table in memory.
    key = list(table.primary_key)
    statement = select(table).order_by(*key).limit(ROWS_AT_ONCE)
    page = connection.execute(statement).all()
    while page:
        yield from (tuple(row) for row in page)
        if len(page) < ROWS_AT_ONCE:
            return
        last = page[-1]
        page = connection.execute(statement.where(_after(table, [last._mapping[column] for column in key]))).all()


def _after(table: Table, values: list[Any]) -> Any:
    key = list(table.primary_key)
    condition = key[-1] > values[-1]
    for column, value in list(zip(key, values, strict=True))[-2::-1]:
        condition = (column > value) | ((column == value) & condition)
    return condition
