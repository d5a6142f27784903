"""Queries of usage, and bodies of external events."""

from __future__ import annotations

from api.compute.schemas.types import NON_NEGATIVE, STRINGS, UUID, Schema, closed, many, query, words
from api.compute.validation import Schemas

_SHOW: Schema = {"start": STRINGS, "end": STRINGS}
_LIST: Schema = _SHOW | {"detailed": STRINGS}
_PAGES: Schema = {"limit": many(NON_NEGATIVE), "marker": STRINGS}
LIST = Schemas((1, query(_LIST)), (40, query(_LIST | _PAGES)), (75, query(_LIST | _PAGES, strict=True)), query=True)
SHOW = Schemas((1, query(_SHOW)), (40, query(_SHOW | _PAGES)), (75, query(_SHOW | _PAGES, strict=True)), query=True)

_NAMES = words("network-changed network-vif-plugged network-vif-unplugged network-vif-deleted")


def _events(*more: str) -> Schema:
    event: Schema = {
        "server_uuid": UUID,
        "name": {"type": "string", "enum": [*_NAMES, *more]},
        "status": {"type": "string", "enum": ["failed", "completed", "in-progress"]},
        "tag": {"type": "string", "maxLength": 255},
    }
    items = closed(event, "server_uuid", "name")
    return closed({"events": {"type": "array", "minItems": 1, "items": items}}, "events")


_LATER = ("volume-extended", "power-update", "accelerator-request-bound", "volume-reimaged")
EVENTS = Schemas(
    (1, _events()),
    (51, _events(*_LATER[:1])),
    (76, _events(*_LATER[:2])),
    (82, _events(*_LATER[:3])),
    (93, _events(*_LATER)),
)
