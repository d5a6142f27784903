"""Bodies and queries of flavors, their extra specs and their access."""

from __future__ import annotations

from api.compute.schemas.types import (
    BOOLEAN,
    NAME,
    NON_NEGATIVE,
    POSITIVE,
    STRINGS,
    Schema,
    closed,
    many,
    query,
    wrapped,
)
from api.compute.validation import Schemas

_MAX = 0x7FFFFFFF
_CREATE: Schema = {
    "name": NAME,
    "id": {
        "type": ["string", "number", "null"],
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^(?! )[a-zA-Z0-9. _-]+(?<! )$",
    },
    "ram": POSITIVE | {"maximum": _MAX},
    "vcpus": POSITIVE | {"maximum": _MAX},
    "disk": NON_NEGATIVE | {"maximum": _MAX},
    "OS-FLV-EXT-DATA:ephemeral": NON_NEGATIVE | {"maximum": _MAX},
    "swap": NON_NEGATIVE | {"maximum": _MAX},
    "rxtx_factor": {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$", "minimum": 0},
    "os-flavor-access:is_public": BOOLEAN,
}
_TEXT: Schema = {"type": ["string", "null"], "minLength": 0, "maxLength": 65535, "pattern": r"^[\s\S]*$"}
_NEEDED = ("name", "ram", "vcpus", "disk")

CREATE = Schemas(
    (1, wrapped("flavor", closed(_CREATE, *_NEEDED))),
    (55, wrapped("flavor", closed(_CREATE | {"description": _TEXT}, *_NEEDED))),
)
UPDATE = Schemas((55, wrapped("flavor", closed({"description": _TEXT}, "description"))))

_LIST: Schema = {
    "limit": many(NON_NEGATIVE),
    "marker": STRINGS,
    "is_public": STRINGS,
    "minRam": STRINGS,
    "minDisk": STRINGS,
    "sort_key": STRINGS,
    "sort_dir": many({"type": "string", "enum": ["asc", "desc"]}),
}
LIST = Schemas((1, query(_LIST)), (75, query(_LIST, strict=True)), query=True)

_SPECS: Schema = {
    "type": "object",
    "patternProperties": {
        r"^[a-zA-Z0-9-_:. ]{1,255}$": {
            "type": ["string", "number"],
            "minLength": 1,
            "maxLength": 255,
        }
    },
    "additionalProperties": False,
}
SPECS = Schemas((1, wrapped("extra_specs", _SPECS)))
SPEC = Schemas((1, _SPECS | {"minProperties": 1, "maxProperties": 1}))

_ACCESS: Schema = closed({"tenant": {"type": "string", "minLength": 1, "maxLength": 255}}, "tenant")
ADD_ACCESS = Schemas((1, wrapped("addTenantAccess", _ACCESS)))
REMOVE_ACCESS = Schemas((1, wrapped("removeTenantAccess", _ACCESS)))
