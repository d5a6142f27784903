"""Bodies and queries of interfaces and volume attachments."""

from __future__ import annotations

from api.compute.schemas.types import (
    BOOLEAN,
    DEVICE_TAG,
    IP_ADDRESS,
    NON_NEGATIVE,
    UUID,
    Schema,
    closed,
    many,
    query,
    wrapped,
)
from api.compute.validation import Schemas

_FIXED: Schema = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1,
    "items": closed({"ip_address": IP_ADDRESS}, "ip_address"),
}
_INTERFACE: Schema = {"net_id": UUID, "port_id": UUID, "fixed_ips": _FIXED}
INTERFACE = Schemas(
    (1, closed({"interfaceAttachment": closed(_INTERFACE)})),
    (49, closed({"interfaceAttachment": closed(_INTERFACE | {"tag": DEVICE_TAG})})),
)

_DEVICE: Schema = {
    "type": ["string", "null"],
    "pattern": "(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$",
}
_ATTACH: Schema = {"volumeId": UUID, "device": _DEVICE}
_ATTACH_49 = _ATTACH | {"tag": DEVICE_TAG}
ATTACH = Schemas(
    (1, wrapped("volumeAttachment", closed(_ATTACH, "volumeId"))),
    (49, wrapped("volumeAttachment", closed(_ATTACH_49, "volumeId"))),
    (79, wrapped("volumeAttachment", closed(_ATTACH_49 | {"delete_on_termination": BOOLEAN}, "volumeId"))),
)
UPDATE = Schemas(
    (1, wrapped("volumeAttachment", closed({"volumeId": UUID}, "volumeId"))),
    (
        85,
        wrapped(
            "volumeAttachment",
            closed(_ATTACH_49 | {"delete_on_termination": BOOLEAN, "serverId": UUID, "id": UUID}, "volumeId"),
        ),
    ),
)

_PAGES: Schema = {"limit": many(NON_NEGATIVE), "offset": many(NON_NEGATIVE)}
VOLUMES = Schemas((1, query(_PAGES)), (75, query(_PAGES, strict=True)), query=True)
