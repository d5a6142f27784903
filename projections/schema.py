"""The tables of the read models: everything that is derived from the log, and how far it has been derived.

No row here is a truth of its own: a table can be dropped at any time and comes back by replay. There are therefore no
migrations. Whoever changes a table, or what the fold writes into it, raises `SCHEMA_VERSION`; the projector then builds
the new tables from the log and swaps them in.

Ids of actions and events are `position * 1024 + index`, so that they are unique, in the order of the log, and tell
where in it they come from. Times are UTC as text of fixed width, which sorts as time does. Flags are 0 or 1. JSON is
text.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, text
from sqlalchemy.dialects import postgresql

SCHEMA_VERSION = 2
EVENTS_PER_COMMIT = 1024
# Names in `positions`.
LOG = "log"
REJECTIONS = "rejections"

metadata = MetaData()

# Both databases compare text byte by byte: PostgreSQL's own collations would sort names and times in another order.
TEXT = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
# SQLite's cheapest table is one whose key is an INTEGER.
ID = BigInteger().with_variant(Integer(), "sqlite")


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, TEXT, nullable=null)


def _number(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _index(name: str, *columns: str, where: str | None = None) -> Index:
    condition = text(where) if where else None
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


positions = Table(
    "positions",
    metadata,
    Column("name", TEXT, primary_key=True),
    _number("position"),
    _text("hash", null=True),  # of the commit at this position: tells another log from a longer one
)

schema_info = Table("schema_info", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

servers = Table(
    "servers",
    metadata,
    Column("id", TEXT, primary_key=True),
    _number("position"),
    _number("version"),
    _text("project_id"),
    _text("user_id"),
    _text("name"),
    _text("description", null=True),
    _text("vm_state"),
    _text("task_state", null=True),
    _text("power_state"),
    _text("host", null=True),
    _text("availability_zone"),
    _text("image_id", null=True),
    _text("flavor_id", null=True),
    _text("flavor_name", null=True),
    _number("vcpus"),
    _number("memory_mb"),
    _number("disk_gb"),
    _text("key_name", null=True),
    _text("hostname"),
    _text("instance_name"),
    _text("reservation_id"),
    _number("launch_index"),
    _number("progress"),
    _text("locked_by", null=True),
    _number("locked"),
    _number("config_drive"),
    _text("disk_config"),
    _text("root_device_name", null=True),
    _text("access_ip_v4", null=True),
    _text("access_ip_v6", null=True),
    _text("addresses_v4"),  # one per line
    _text("addresses_v6"),
    _text("tags"),  # ",one,two," or ""
    _text("created_at"),
    _text("updated_at"),
    _text("launched_at", null=True),
    _text("terminated_at", null=True),
    _number("deleted"),
    _number("stuck"),
    _text("state"),
    _index("servers_by_project", "project_id", "deleted", "created_at", "id", "vcpus", "memory_mb"),
    _index("servers_by_creation", "deleted", "created_at", "id"),
    _index("servers_by_host", "host", where="host is not null"),
)

placement = Table(
    "placement",
    metadata,
    Column("server_id", TEXT, primary_key=True),
    Column("role", TEXT, primary_key=True),  # current | pending | source
    _text("host"),
    _number("vcpus"),
    _number("memory_mb"),
    _number("disk_gb"),
    _index("placement_by_host", "host"),
)

actions = Table(
    "actions",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=False),
    _text("server_id"),
    _text("request_id"),
    _text("command"),
    _text("action"),
    _number("internal"),
    _text("user_id"),
    _text("user_name"),
    _text("project_id", null=True),
    _text("roles"),
    _text("remote"),
    _text("start_time"),
    _text("finish_time", null=True),
    _text("updated_at"),
    _text("result", null=True),
    _text("outcome", null=True),
    _text("host", null=True),
    _text("text", null=True),
    _text("fault", null=True),
    _text("details", null=True),
    _number("position_last"),
    _index("actions_by_server", "server_id", "id"),
    _index("actions_by_request", "request_id"),
)

action_steps = Table(
    "action_steps",
    metadata,
    Column("action_id", ID, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("step"),
    _number("undo"),
    _number("attempt"),
    _text("event", null=True),
    _text("start_time"),
    _text("finish_time", null=True),
    _text("result", null=True),
    _text("host", null=True),
    _text("message", null=True),
    _number("progress", null=True),
    _text("fault", null=True),
    _text("details", null=True),
    _text("sub_steps", null=True),
    _number("position_first"),
    _number("position_last"),
    sqlite_with_rowid=False,
)

# What `resources(where=...)` may ask for, beside the columns that every kind has. Each is indexed.
RESOURCE_KEYS = (
    "address",
    "device_id",
    "flavor_id",
    "image_id",
    "mac",
    "network_id",
    "number",
    "port_id",
    "snapshot_id",
    "status",
    "subnet_id",
    "user_id",
    "visibility",
    "volume_id",
)

resources = Table(
    "resources",
    metadata,
    Column("kind", TEXT, primary_key=True),
    Column("id", TEXT, primary_key=True),
    _number("position"),
    _number("version"),
    _text("project_id", null=True),
    _text("name"),
    _text("created_at"),
    _text("updated_at"),
    _number("deleted"),
    *(_text(key, null=True) for key in RESOURCE_KEYS),
    _text("state"),
    _index("resources_by_name", "kind", "name", where="name <> ''"),
    _index("resources_by_project", "kind", "project_id", where="project_id is not null"),
    *(_index(f"resources_by_{key}", key, where=f"{key} is not null") for key in RESOURCE_KEYS),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=False),
    _text("kind"),
    _text("aggregate_id"),
    _number("version"),
    _text("project_id", null=True),  # the owner of what changed, who need not be the one who changed it
    _text("type"),
    _text("command"),
    _text("phase"),
    _text("step", null=True),
    _text("request_id"),
    _text("correlation_id"),
    _text("causation_id"),
    _text("user_id"),
    _text("user_name"),
    _text("occurred_at"),
    _number("failed"),
    _index("events_by_aggregate", "aggregate_id", "id"),
    _index("events_by_correlation", "correlation_id"),
)

# Not from the log: the bounded stream of rejected commands, whose sequence is the id.
rejections = Table(
    "rejections",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=False),
    _text("at"),
    _text("kind"),
    _text("aggregate_id"),
    _text("command"),
    _text("user_id"),
    _text("user_name"),
    _text("project_id", null=True),
    _text("actor"),
    _text("request_id"),
    _number("code"),
    _text("reason"),
    _text("message"),
    _text("hint"),
    _text("params"),
    _index("rejections_by_aggregate", "aggregate_id", "id"),
)

# What is rebuilt from the log and has to be equal to it.
LOG_TABLES = (servers, placement, actions, action_steps, resources, events)
