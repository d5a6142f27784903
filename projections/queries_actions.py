"""The SQL of the action history. As text, for it is read at every poll of every client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from projections.query import MAX_LIMIT, MarkerNotFound, bounded
from projections.reader import ReadConnection
from projections.rows import ActionRow, StepRow, action_row, nova_events, step_row
from projections.times import to_text

Text = Callable[[str], str]  # SQL with question marks, as the database wants it


@dataclass(frozen=True, kw_only=True)
class ActionQuery:
    """Which actions of a server, newest first. `marker`: a request id; `internal=False`: only what Nova has too."""

    limit: int = MAX_LIMIT
    marker: str | None = None
    changes_since: datetime | None = None
    changes_before: datetime | None = None
    internal: bool = True


def read_actions(connection: ReadConnection, text: Text, server_id: str, query: ActionQuery) -> list[Any]:
    """Rows of `actions`. Raises MarkerNotFound."""
    wanted = {
        "server_id=?": server_id,
        "id<?": None if query.marker is None else _id(connection, text, server_id, query.marker),
        "updated_at>=?": to_text(query.changes_since),
        "updated_at<=?": to_text(query.changes_before),
        "internal=?": None if query.internal else 0,
    }
    given = {condition: value for condition, value in wanted.items() if value is not None}
    sql = text(f"select * from actions where {' and '.join(given)} order by id desc limit ?")
    return connection.rows(sql, (*given.values(), bounded(query.limit)))


def read_action(connection: ReadConnection, text: Text, server_id: str, request_id: str) -> list[Any]:
    """The newest row of this request: one or none."""
    sql = text("select * from actions where request_id=? and server_id=? order by id desc limit 1")
    return connection.rows(sql, (request_id, server_id))


def _id(connection: ReadConnection, text: Text, server_id: str, request_id: str) -> int:
    found = read_action(connection, text, server_id, request_id)
    if not found:
        raise MarkerNotFound(request_id)
    id: int = found[0][0]
    return id


def with_steps(connection: ReadConnection, text: Text, server_id: str, rows: Sequence[Any]) -> list[ActionRow]:
    """Rows of one server's actions, newest first, with steps and events filled in."""
    if not rows:
        return []
    sql = text(
        "select s.* from actions a join action_steps s on s.action_id = a.id "
        "where a.server_id=? and a.id between ? and ? order by s.action_id, s.number"
    )
    found = connection.rows(sql, (server_id, rows[-1][0], rows[0][0]))
    steps: dict[int, tuple[StepRow, ...]] = {
        action_id: tuple(step_row(row) for row in group) for action_id, group in groupby(found, key=itemgetter(0))
    }
    owner = connection.rows(text("select project_id from servers where id=?"), (server_id,))
    project_id = owner[0][0] if owner else ""
    return [action_row(row, own, nova_events(own, project_id)) for row in rows for own in (steps.get(row[0], ()),)]
