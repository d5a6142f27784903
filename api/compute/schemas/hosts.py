"""Bodies and queries of hypervisors, services, hosts and aggregates."""

from __future__ import annotations

from api.compute.schemas.types import (
    AZ_NAME,
    BOOLEAN,
    HOSTNAME,
    NAME,
    NON_NEGATIVE,
    STRINGS,
    Schema,
    closed,
    one,
    query,
    wrapped,
)
from api.compute.validation import Schemas

_PAGES: Schema = {"limit": one(NON_NEGATIVE), "marker": one({"type": "string"})}
_WITH: Schema = {"with_servers": one(BOOLEAN)}
HYPERVISORS = Schemas(
    (1, query({})),
    (33, query(_PAGES)),
    (53, query(_PAGES | _WITH | {"hypervisor_hostname_pattern": one({"type": "string", "minLength": 1})}, strict=True)),
    query=True,
)
HYPERVISOR = Schemas((53, query(_WITH, strict=True)), query=True)

_SERVICES: Schema = {"host": STRINGS, "binary": STRINGS}
SERVICES = Schemas((1, query(_SERVICES)), (75, query(_SERVICES, strict=True)), query=True)
_REASON: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_SERVICE: Schema = {
    "host": HOSTNAME,
    "binary": {"type": "string", "minLength": 1, "maxLength": 255},
    "disabled_reason": _REASON,
}
SERVICE = Schemas(
    (1, closed(_SERVICE, "host", "binary")),
    (11, closed(_SERVICE | {"forced_down": BOOLEAN}, "host", "binary")),
    (
        53,
        closed(
            {
                "status": {"type": "string", "enum": ["enabled", "disabled"]},
                "disabled_reason": _REASON,
                "forced_down": BOOLEAN,
            }
        ),
    ),
)
_SWITCH: Schema = {"type": "string", "enum": ["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"]}
HOST = Schemas(
    (
        1,
        closed(
            {"status": _SWITCH, "maintenance_mode": _SWITCH},
            anyOf=[{"required": ["status"]}, {"required": ["maintenance_mode"]}],
        ),
    )
)

_ZONE: Schema = {"oneOf": [AZ_NAME, {"type": "null"}]}
AGGREGATE = Schemas((1, wrapped("aggregate", closed({"name": NAME, "availability_zone": _ZONE}, "name"))))
AGGREGATE_UPDATE = Schemas(
    (
        1,
        wrapped(
            "aggregate",
            closed(
                {"name": NAME, "availability_zone": _ZONE},
                anyOf=[{"required": ["name"]}, {"required": ["availability_zone"]}],
            ),
        ),
    )
)
ADD_HOST = Schemas((1, wrapped("add_host", closed({"host": HOSTNAME}, "host"))))
REMOVE_HOST = Schemas((1, wrapped("remove_host", closed({"host": HOSTNAME}, "host"))))
_METADATA: Schema = {
    "type": "object",
    "patternProperties": {r"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": ["string", "null"], "maxLength": 255}},
    "additionalProperties": False,
}
SET_METADATA = Schemas((1, wrapped("set_metadata", closed({"metadata": _METADATA}, "metadata"))))
IMAGES = Schemas(
    (
        81,
        wrapped(
            "cache",
            {
                "type": "array",
                "minItems": 1,
                "items": closed({"id": {"type": "string", "format": "uuid"}}, "id"),
            },
        ),
    )
)
