"""The SQL of the smaller lists: actions, resources, events, rejections, hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from projections.fold_resources import key_text
from projections.paging import order_of, page
from projections.query import MAX_LIMIT, InvalidQuery, bounded
from projections.schema import (
    EVENTS_PER_COMMIT,
    RESOURCE_KEYS,
    actions,
    events,
    placement,
    rejections,
    resources,
    servers,
)
from projections.times import to_text

Sort = Sequence[tuple[str, str]]
OLDEST_FIRST: Sort = (("created_at", "asc"),)


def commit_text(aggregate_id: str, upto: int | None, at: datetime | None) -> tuple[str, tuple[Any, ...]]:
    """The newest event of an aggregate at or before a position or a time."""
    wanted = {
        "aggregate_id=?": aggregate_id,
        "id<?": None if upto is None else (upto + 1) * EVENTS_PER_COMMIT,
        "occurred_at<=?": to_text(at),
    }
    given = {condition: value for condition, value in wanted.items() if value is not None}
    return f"select id from events where {' and '.join(given)} order by id desc limit 1", tuple(given.values())


def newest_actions_statement(server_ids: Sequence[str]) -> Select[Any]:
    newest = select(func.max(actions.c.id)).where(actions.c.server_id.in_(server_ids)).group_by(actions.c.server_id)
    return select(actions).where(actions.c.id.in_(newest))


def resource_conditions(
    kind: str,
    *,
    project_id: str | None,
    name: str | None,
    ids: Sequence[str] | None,
    where: Mapping[str, Any] | None,
    include_deleted: bool,
) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [resources.c.kind == kind]
    if project_id is not None:
        found.append(resources.c.project_id == project_id)
    if name is not None:
        found.append(resources.c.name == name)
    if ids is not None:
        found.append(resources.c.id.in_(ids))
    if not include_deleted:
        found.append(resources.c.deleted == 0)
    for key, value in (where or {}).items():
        if key not in RESOURCE_KEYS:
            raise InvalidQuery(f"resources can not be asked by {key!r}, only by {', '.join(RESOURCE_KEYS)}")
        column = resources.c[key]
        if isinstance(value, (list, tuple, set, frozenset)):
            found.append(column.in_([key_text(one) for one in value]))
        else:
            text = key_text(value)
            found.append(column.is_(None) if text is None else column == text)
    return found


def resources_statement(
    conditions: Sequence[ColumnElement[bool]], sort: Sort, limit: int, after: Sequence[Any] | None
) -> Select[Any]:
    statement = select(resources.c.state).where(*conditions)
    return page(statement, order_of(resources, sort, {}), limit, after)


def addresses_without_port_statement(until: str, limit: int) -> Select[Any]:
    """Addresses that are claimed since some time, for a port that does not have them."""
    address, port = resources.alias("address"), resources.alias("port")
    with_it = select(port.c.id).where(
        port.c.kind == "port",
        port.c.id == address.c.port_id,
        port.c.deleted == 0,
        port.c.state.like('%"address":"' + address.c.address + '"%'),
    )
    return (
        select(address.c.state)
        .where(
            address.c.kind == "address",
            address.c.deleted == 0,
            address.c.port_id.is_not(None),
            address.c.updated_at <= until,
            ~with_it.exists(),
        )
        .limit(limit)
    )


def ports_without_server_statement(until: str, limit: int) -> Select[Any]:
    """Ports that are a server's since some time, which is deleted or does not show them."""
    shown = servers.c.state.like('%"port_id":"' + resources.c.id + '"%')
    return (
        select(resources.c.state)
        .join(servers, servers.c.id == resources.c.device_id)
        .where(
            resources.c.kind == "port",
            resources.c.deleted == 0,
            resources.c.updated_at <= until,
            or_(servers.c.deleted != 0, ~shown),
        )
        .limit(limit)
    )


def resource_marker_statement(kind: str, sort: Sort, marker: str) -> Select[Any]:
    order = order_of(resources, sort, {})
    values = [expression for expression, _ in order]
    return select(*values).where(resources.c.kind == kind, resources.c.id == marker)


@dataclass(frozen=True, kw_only=True)
class EventQuery:
    """Which events of the log. `request_id` finds what a request did and what followed from it (correlation).

    `causation_id` finds what a commit or report led to: quick together with an aggregate, a search of all later events
    without. `after` and `before` are positions, `after_id` and `before_id` events, all exclusive. `types` may end in
    `*`.
    """

    project_id: str | None = None
    kind: str | None = None
    aggregate_id: str | None = None
    types: tuple[str, ...] = ()
    command: str | None = None
    phases: tuple[str, ...] = ()
    user_id: str | None = None
    request_id: str | None = None
    causation_id: str | None = None
    failed: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: int | None = None
    before: int | None = None
    after_id: int | None = None
    before_id: int | None = None
    newest_first: bool = False
    limit: int = MAX_LIMIT


def events_statement(query: EventQuery) -> Select[Any]:
    column = events.c
    found: list[ColumnElement[bool]] = []
    for name in ("project_id", "kind", "aggregate_id", "command", "user_id", "causation_id"):
        if (value := getattr(query, name)) is not None:
            found.append(column[name] == value)
    if query.request_id is not None:
        found.append(column.correlation_id == query.request_id)
    if query.causation_id is not None and query.causation_id.isdecimal():
        # Nothing is caused by what comes after it.
        found.append(column.id > int(query.causation_id) * EVENTS_PER_COMMIT)
    if query.phases:
        found.append(column.phase.in_(query.phases))
    if query.types:
        found.append(_type_among(query.types))
    if query.failed is not None:
        found.append(column.failed == int(query.failed))
    if query.since is not None:
        found.append(column.occurred_at >= to_text(query.since))
    if query.until is not None:
        found.append(column.occurred_at <= to_text(query.until))
    if query.after is not None:
        found.append(column.id >= (query.after + 1) * EVENTS_PER_COMMIT)
    if query.before is not None:
        found.append(column.id < query.before * EVENTS_PER_COMMIT)
    if query.after_id is not None:
        found.append(column.id > query.after_id)
    if query.before_id is not None:
        found.append(column.id < query.before_id)
    order = column.id.desc() if query.newest_first else column.id.asc()
    return select(events).where(*found).order_by(order).limit(bounded(query.limit))


def _type_among(types: Sequence[str]) -> ColumnElement[bool]:
    exact = [name for name in types if not name.endswith("*")]
    condition: ColumnElement[bool] = events.c.type.in_(exact)
    for name in types:
        if name.endswith("*"):
            condition = condition | events.c.type.startswith(name[:-1], autoescape=True)
    return condition


def rejections_statement(
    *,
    project_id: str | None,
    aggregate_id: str | None,
    user_id: str | None,
    request_id: str | None,
    command: str | None,
    before_id: int | None,
    limit: int,
) -> Select[Any]:
    """Refused commands, newest first."""
    column = rejections.c
    wanted = {
        column.project_id: project_id,
        column.aggregate_id: aggregate_id,
        column.user_id: user_id,
        column.request_id: request_id,
        column.command: command,
    }
    statement = select(rejections).where(*(name == value for name, value in wanted.items() if value is not None))
    if before_id is not None:
        statement = statement.where(column.id < before_id)
    return statement.order_by(column.id.desc()).limit(bounded(limit))


def hosts_statement() -> Select[Any]:
    """All hosts, however many, by name."""
    column = resources.c
    return select(column.state).where(column.kind == "host", column.deleted == 0).order_by(column.name, column.id)


def placed_statement() -> Select[Any]:
    """Per host: what is placed on it, and how many servers."""
    return select(
        placement.c.host,
        func.sum(placement.c.vcpus),
        func.sum(placement.c.memory_mb),
        func.sum(placement.c.disk_gb),
        func.count(placement.c.server_id.distinct()),
    ).group_by(placement.c.host)
