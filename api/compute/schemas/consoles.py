"""Bodies of remote consoles."""

from __future__ import annotations

from api.compute.schemas.types import Schema, closed, wrapped
from api.compute.validation import Schemas

_PROTOCOLS = ["vnc", "spice", "serial", "rdp"]
_TYPES = ["novnc", "xvpvnc", "spice-html5", "serial", "rdp-html5"]


def _create(protocols: list[str], types: list[str]) -> Schema:
    return wrapped(
        "remote_console",
        closed(
            {"protocol": {"type": "string", "enum": protocols}, "type": {"type": "string", "enum": types}},
            "protocol",
            "type",
        ),
    )


CREATE = Schemas((6, _create(_PROTOCOLS, _TYPES)), (8, _create([*_PROTOCOLS, "mks"], [*_TYPES, "webmks"])))
