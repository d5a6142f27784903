"""What may be asked of the lists: filters, order and pages, apart from how the database answers.

Shapes: a page is at most `MAX_LIMIT` rows. `marker` is the id of the last row of the page before; a marker that names
nothing raises `MarkerNotFound`. A regular expression that can not be read, and a sort key that does not exist, raise
`InvalidQuery`. Patterns are RE2 on SQLite and PostgreSQL's own there: both search anywhere in the text. A pattern of
names that can not be read is text, found anywhere in the names, and refused only if it is in none (`patterns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

MAX_LIMIT = 1000
MAX_PATTERN = 255

# (vm_state or None for any, task_states or None for any); None among the task_states is "no task".
StatePair = tuple[str | None, tuple[str | None, ...] | None]


def bounded(limit: int) -> int:
    return max(0, min(limit, MAX_LIMIT))


class MarkerNotFound(LookupError):
    """The marker names no row of this list."""


class InvalidQuery(ValueError):
    """A filter or sort key makes no sense; the text says which."""


class NoExpression(InvalidQuery):
    """A pattern is no regular expression; of names, and as plain text it found nothing either."""


@dataclass(frozen=True, kw_only=True)
class ServerQuery:
    """Which servers, in which order. A filter that is None (or empty) filters nothing; all others have to hold.

    `regex`: column name -> pattern, for name, hostname, key_name, description, ... (see `queries_servers.PATTERNS`).
    `ip`, `ip6`: patterns too, held against each address. `changes_since` and `changes_before` are inclusive and look
    at updated_at; whether deleted servers are among the answers is `deleted` alone (None: both). `gone` is the same for
    those that are deleted or wait for it since a soft delete.
    """

    project_id: str | None = None
    user_id: str | None = None
    ids: tuple[str, ...] | None = None
    states: tuple[StatePair, ...] | None = None
    vm_states: tuple[str, ...] | None = None
    task_states: tuple[str | None, ...] | None = None
    power_states: tuple[str, ...] | None = None
    host: str | None = None
    hosts: tuple[str, ...] | None = None
    image_id: str | None = None
    flavor_id: str | None = None
    flavor_name: str | None = None
    key_name: str | None = None
    availability_zone: str | None = None
    reservation_id: str | None = None
    hostname: str | None = None
    locked: bool | None = None
    locked_by: str | None = None
    config_drive: bool | None = None
    disk_config: str | None = None
    launch_index: int | None = None
    progress: int | None = None
    stuck: bool | None = None
    deleted: bool | None = False
    gone: bool | None = None
    name_regex: str | None = None
    ip: str | None = None
    ip6: str | None = None
    regex: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()  # all of them
    tags_any: tuple[str, ...] = ()
    not_tags: tuple[str, ...] = ()  # not all of them
    not_tags_any: tuple[str, ...] = ()  # none of them
    created_at: datetime | None = None
    launched_at: datetime | None = None
    terminated_at: datetime | None = None
    changes_since: datetime | None = None
    changes_before: datetime | None = None
    sort: tuple[tuple[str, str], ...] = (("created_at", "desc"),)  # (key, asc|desc); id breaks ties
    limit: int = MAX_LIMIT
    marker: str | None = None
