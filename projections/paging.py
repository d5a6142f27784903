"""Keyset pages over any table: sorting by several keys in mixed directions, going on after a marker.

Empty values sort before all others, on every database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, Select, Table, and_, func, or_

from projections.query import InvalidQuery, bounded

Order = list[tuple[ColumnElement[Any], bool]]  # expression, descending


def order_of(table: Table, sort: Sequence[tuple[str, str]], aliases: Mapping[str, str], unique: str = "id") -> Order:
    """The expressions to sort by, ending with the unique one. Raises InvalidQuery."""
    order: Order = []
    descending = False
    for key, direction in sort:
        column = table.columns.get(aliases.get(key, key))
        if column is None:
            raise InvalidQuery(f"there is no sort key {key!r}")
        if direction not in ("asc", "desc"):
            raise InvalidQuery(f"a sort direction is asc or desc, not {direction!r}")
        descending = direction == "desc"
        order.append((_filled(column), descending))
    order.append((table.columns[unique], descending))
    return order


def _filled(column: Column[Any]) -> ColumnElement[Any]:
    if not column.nullable:
        return column
    return func.coalesce(column, -1 if isinstance(column.type, (BigInteger, Integer)) else "")


def page(statement: Select[Any], order: Order, limit: int, after: Sequence[Any] | None) -> Select[Any]:
    """The statement, sorted, limited, and going on after the row with these values of the order."""
    if after is not None:
        statement = statement.where(_beyond(order, after))
    by = [expression.desc() if descending else expression.asc() for expression, descending in order]
    return statement.order_by(*by).limit(bounded(limit))


def _beyond(order: Order, after: Sequence[Any]) -> ColumnElement[bool]:
    condition: ColumnElement[bool] | None = None
    for (expression, descending), value in reversed(list(zip(order, after, strict=True))):
        strictly = expression < value if descending else expression > value
        condition = strictly if condition is None else or_(strictly, and_(expression == value, condition))
    assert condition is not None
    return condition
