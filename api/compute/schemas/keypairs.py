"""Bodies and queries of key pairs."""

from __future__ import annotations

from api.compute.schemas.types import NON_NEGATIVE, STRINGS, Schema, closed, many, query, wrapped
from api.compute.validation import Schemas

_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "format": "keypair_name"}
_NAME_92: Schema = _NAME | {"format": "keypair_name_292"}
_TYPE: Schema = {"type": "string", "enum": ["ssh", "x509"]}
_CREATE: Schema = {"name": _NAME, "public_key": {"type": "string"}}
_CREATE_10 = _CREATE | {"type": _TYPE, "user_id": {"type": "string", "minLength": 1, "maxLength": 255}}

CREATE = Schemas(
    (1, wrapped("keypair", closed(_CREATE, "name"))),
    (2, wrapped("keypair", closed(_CREATE | {"type": _TYPE}, "name"))),
    (10, wrapped("keypair", closed(_CREATE_10, "name"))),
    (92, wrapped("keypair", closed(_CREATE_10 | {"name": _NAME_92}, "name", "public_key"))),
)

_PAGES: Schema = {"user_id": STRINGS, "limit": many(NON_NEGATIVE), "marker": STRINGS}
LIST = Schemas(
    (1, query({})), (10, query({"user_id": STRINGS})), (35, query(_PAGES)), (75, query(_PAGES, strict=True)), query=True
)
SHOW = Schemas((10, query({"user_id": STRINGS})), (75, query({"user_id": STRINGS}, strict=True)), query=True)
