"""Queries of instance actions and migrations."""

from __future__ import annotations

from api.compute.schemas.types import NON_NEGATIVE, STRINGS, UUID, Schema, one, query
from api.compute.validation import Schemas

_TIME: Schema = {"type": "string", "format": "date-time"}
_PAGES: Schema = {"limit": one(NON_NEGATIVE), "marker": one({"type": "string"}), "changes-since": one(_TIME)}

LIST = Schemas(
    (58, query(_PAGES, strict=True)),
    (66, query(_PAGES | {"changes-before": one(_TIME)}, strict=True)),
    query=True,
)

_MIGRATIONS: Schema = dict.fromkeys(
    ("hidden", "host", "instance_uuid", "source_compute", "status", "migration_type"), STRINGS
)
_MIGRATIONS_59 = _MIGRATIONS | {
    "instance_uuid": one(UUID),
    "limit": one(NON_NEGATIVE),
    "marker": one(UUID),
    "changes-since": one(_TIME),
}
_MIGRATIONS_66 = _MIGRATIONS_59 | {"changes-before": one(_TIME)}
_MIGRATIONS_80 = _MIGRATIONS_66 | {"user_id": STRINGS, "project_id": STRINGS}

MIGRATIONS = Schemas(
    (1, query(_MIGRATIONS)),
    (59, query(_MIGRATIONS_59, strict=True)),
    (66, query(_MIGRATIONS_66, strict=True)),
    (80, query(_MIGRATIONS_80, strict=True)),
    query=True,
)
