"""The SQL of the server list: filters, order and pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, not_, or_, select
from sqlalchemy.exc import DataError

from projections.paging import order_of, page
from projections.patterns import checked, literal, no_expression, why_text
from projections.query import InvalidQuery, ServerQuery
from projections.reader import ReadConnection
from projections.schema import EVENTS_PER_COMMIT, events, servers
from projections.times import to_text

# Names that Nova's clients sort and filter by, where ours differ.
ALIASES = {
    "uuid": "id",
    "display_name": "name",
    "display_description": "description",
    "image_ref": "image_id",
    "image": "image_id",
    "instance_type_id": "flavor_id",
    "flavor": "flavor_id",
    "node": "host",
    "auto_disk_config": "disk_config",
    "root_device": "root_device_name",
}
PATTERNS = frozenset(
    {
        "name", "description", "hostname", "key_name", "user_id", "availability_zone", "reservation_id", "host",
        "flavor_id", "image_id", "locked_by", "root_device_name", "access_ip_v4", "access_ip_v6", "power_state",
        "created_at", "launched_at", "terminated_at", "instance_name", "disk_config",
    }
)  # fmt: skip

_EQUAL = (
    "project_id", "user_id", "host", "image_id", "flavor_id", "flavor_name", "key_name", "availability_zone",
    "reservation_id", "hostname", "locked_by", "disk_config", "launch_index", "progress",
)  # fmt: skip
_FLAGS = ("locked", "config_drive", "stuck", "deleted")
_AMONG = {"ids": "id", "vm_states": "vm_state", "power_states": "power_state", "hosts": "host"}
_TIMES = ("created_at", "launched_at", "terminated_at")


def rows(connection: ReadConnection, query: ServerQuery, statement: Callable[[bool], Select[Any]]) -> Sequence[Any]:
    """The rows of a list. `statement` is told whether the pattern of the name is meant as it is, as text.

    It is where it is no expression of RE2, or none that this database can read. Raises InvalidQuery for one that found
    nothing, neither way.
    """
    why = why_text(query.name_regex)
    if why is None:
        try:
            return connection.select(statement(False))
        except DataError as error:  # what RE2 could read, PostgreSQL could not
            why = str(error.orig)
    try:
        found = connection.select(statement(True))
    except DataError as error:
        raise InvalidQuery(f"the database can not read a pattern: {error.orig}") from error
    if not found and query.limit and query.marker is None:
        raise no_expression("name", why)
    return found


def list_statement(query: ServerQuery, dialect: str, marker: Any | None, as_text: bool) -> Select[Any]:
    """The states of the servers asked for, in order. `marker`: the values of `marker_statement`, if there is one."""
    statement = select(servers.c.id, servers.c.position, servers.c.state).where(*conditions(query, dialect, as_text))
    return page(statement, order_of(servers, query.sort, ALIASES), query.limit, marker)


def then_statement(query: ServerQuery, moment: int | datetime, marker: Any | None) -> Select[Any]:
    """Those that existed at a position or a time, each with its newest event until then.

    A pattern of the name is not held against what the name is now.
    """
    column, event = servers.c, events.c
    if isinstance(moment, int):
        until = event.id < (moment + 1) * EVENTS_PER_COMMIT
    else:
        until = event.occurred_at <= to_text(moment)
    newest = (
        select(event.id)
        .where(event.aggregate_id == column.id, until)
        .order_by(event.id.desc())
        .limit(1)
        .scalar_subquery()
        .correlate(servers)
    )
    statement = select(column.id, column.position, column.state, newest.label("event")).where(newest.is_not(None))
    if query.project_id is not None:
        statement = statement.where(column.project_id == query.project_id)
    if isinstance(moment, datetime):  # an event of each of those that came later need not be looked for
        statement = statement.where(column.created_at <= to_text(moment))
    return page(statement, order_of(servers, query.sort, ALIASES), query.limit, marker)


def marker_statement(query: ServerQuery) -> Select[Any]:
    order = order_of(servers, query.sort, ALIASES)
    return select(*(expression for expression, _ in order)).where(servers.c.id == query.marker)


def count_statement(query: ServerQuery, dialect: str, as_text: bool) -> Select[Any]:
    return select(func.count()).select_from(servers).where(*conditions(query, dialect, as_text))


def conditions(query: ServerQuery, dialect: str, as_text: bool) -> list[ColumnElement[bool]]:
    column = servers.c
    found: list[ColumnElement[bool]] = []
    for name in _EQUAL:
        if (value := getattr(query, name)) is not None:
            found.append(column[name] == value)
    for name in _FLAGS:
        if (value := getattr(query, name)) is not None:
            found.append(column[name] == int(value))
    if query.gone:
        found.append(or_(column.deleted != 0, column.vm_state == "soft-delete"))
    elif query.gone is not None:
        # Each for itself: an index begins with the first, and most of the servers that ever were are deleted.
        found += [column.deleted == 0, column.vm_state != "soft-delete"]
    for name, target in _AMONG.items():
        if (values := getattr(query, name)) is not None:
            found.append(column[target].in_(values))
    for name in _TIMES:
        if (at := getattr(query, name)) is not None:
            found.append(column[name] == to_text(at))
    if query.task_states is not None:
        found.append(_task_among(query.task_states))
    if query.states is not None:
        pairs = [
            and_(
                *([column.vm_state == vm_state] if vm_state is not None else []),
                *([_task_among(task_states)] if task_states is not None else []),
            )
            for vm_state, task_states in query.states
        ]
        found.append(or_(*pairs) if pairs else false())
    if query.changes_since is not None:
        found.append(column.updated_at >= to_text(query.changes_since))
    if query.changes_before is not None:
        found.append(column.updated_at <= to_text(query.changes_before))
    found += _tag_conditions(query, dialect)
    return found + _pattern_conditions(query, dialect) + _name_conditions(query, as_text)


def _task_among(task_states: tuple[str | None, ...]) -> ColumnElement[bool]:
    named = [state for state in task_states if state is not None]
    among = servers.c.task_state.in_(named)
    return or_(among, servers.c.task_state.is_(None)) if None in task_states else among


def _tag_conditions(query: ServerQuery, dialect: str) -> list[ColumnElement[bool]]:
    place = func.strpos if dialect == "postgresql" else func.instr  # SQLite's LIKE takes A for a

    def has(tag: str) -> ColumnElement[bool]:
        return place(servers.c.tags, f",{tag},") > 0

    found: list[ColumnElement[bool]] = [has(tag) for tag in query.tags]
    if query.tags_any:
        found.append(or_(*map(has, query.tags_any)))
    if query.not_tags:
        found.append(not_(and_(*map(has, query.not_tags))))
    if query.not_tags_any:
        found.append(not_(or_(*map(has, query.not_tags_any))))
    return found


def _name_conditions(query: ServerQuery, as_text: bool) -> list[ColumnElement[bool]]:
    name, pattern = servers.c.name, query.name_regex
    if pattern is None:
        return []
    return [name.regexp_match(literal(pattern)) if as_text else or_(name.regexp_match(pattern), name == pattern)]


def _pattern_conditions(query: ServerQuery, dialect: str) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for key, pattern in query.regex.items():
        name = ALIASES.get(key, key)
        if name not in PATTERNS:
            raise InvalidQuery(f"servers can not be filtered by a pattern of {key!r}")
        found.append(servers.c[name].regexp_match(checked(key, pattern)))
    # Addresses are kept one per line: ^ and $ mean those of a line.
    by_line = "(?n)" if dialect == "postgresql" else "(?m)"
    for key, name in (("ip", "addresses_v4"), ("ip6", "addresses_v6")):
        pattern = getattr(query, key)
        if pattern is not None:
            found.append(servers.c[name].regexp_match(by_line + checked(key, pattern)))
    return found
