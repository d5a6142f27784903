"""Bodies and queries of server groups."""

from __future__ import annotations

from api.compute.schemas.types import NAME, NON_NEGATIVE, POSITIVE, STRINGS, Schema, closed, many, query, wrapped
from api.compute.validation import Schemas

_SOFT = ["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"]


def _policies(names: list[str]) -> Schema:
    return {
        "type": "array",
        "items": [{"type": "string", "enum": names}],
        "uniqueItems": True,
        "additionalItems": False,
        "minItems": 1,
    }


CREATE = Schemas(
    (1, wrapped("server_group", closed({"name": NAME, "policies": _policies(_SOFT[:2])}, "name", "policies"))),
    (15, wrapped("server_group", closed({"name": NAME, "policies": _policies(_SOFT)}, "name", "policies"))),
    (
        64,
        wrapped(
            "server_group",
            closed(
                {
                    "name": NAME,
                    "policy": {"type": "string", "enum": _SOFT},
                    "rules": closed({"max_server_per_host": POSITIVE}),
                },
                "name",
                "policy",
            ),
        ),
    ),
)
_LIST: Schema = {"all_projects": STRINGS, "limit": many(NON_NEGATIVE), "offset": many(NON_NEGATIVE)}
LIST = Schemas((1, query(_LIST)), (75, query(_LIST, strict=True)), query=True)
