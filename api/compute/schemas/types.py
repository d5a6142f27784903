"""The recurring kinds of values in the compute API, as JSON Schema (draft 4)."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

ANYTHING: Schema = {}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "format": "name"}
AZ_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "format": "az_name"}
DESCRIPTION: Schema = {"type": ["string", "null"], "minLength": 0, "maxLength": 255, "pattern": r"^[\s\S]*$"}
BOOLEAN: Schema = {
    "type": ["boolean", "string"],
    "enum": [
        *(True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t"),
        *(False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"),
    ],
}
POSITIVE: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]*$", "minimum": 1, "minLength": 1}
NON_NEGATIVE: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]*$", "minimum": 0, "minLength": 1}
UUID: Schema = {"type": "string", "format": "uuid"}
NULLABLE_UUID: Schema = {"type": ["null", "string"], "format": "uuid"}
FLAVOR_REF: Schema = {"type": ["string", "integer"], "minLength": 1}
ADMIN_PASSWORD: Schema = {"type": "string"}
HOSTNAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9-._]*$"}
FQDN: Schema = {
    "type": "string",
    "minLength": 2,
    "maxLength": 63,
    "pattern": r"^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$",
}
LONG_FQDN: Schema = {
    "type": "string",
    "minLength": 2,
    "maxLength": 255,
    "pattern": r"^[a-zA-Z0-9]+[a-zA-Z0-9-\.]*[a-zA-Z0-9]+$",
}
DISK_CONFIG: Schema = {"type": "string", "enum": ["AUTO", "MANUAL"]}
IPV4: Schema = {"type": "string", "format": "ipv4"}
IPV6: Schema = {"type": "string", "format": "ipv6"}
IP_ADDRESS: Schema = {"type": "string", "oneOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
METADATA: Schema = {
    "type": "object",
    "patternProperties": {r"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"}
DEVICE_TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"}
IMAGE_ID: Schema = {"type": "string", "format": "uuid"}
IMAGE_ID_OR_EMPTY: Schema = {"oneOf": [{"type": "string", "format": "uuid"}, {"type": "string", "maxLength": 0}]}


def words(text: str) -> list[str]:
    """A list of names, readable in a table."""
    return text.split()


def closed(properties: Schema, *required: str, **more: Any) -> Schema:
    """An object with these properties and no others."""
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    schema["additionalProperties"] = False
    return schema | more


def wrapped(key: str, value: Schema) -> Schema:
    """A body of one key."""
    return closed({key: value}, key)


def without(properties: Schema, *names: str) -> Schema:
    return {name: value for name, value in properties.items() if name not in names}


# --- queries: every parameter is a list of the values given ---


def one(schema: Schema) -> Schema:
    """A parameter that may be given once."""
    return {"type": "array", "items": schema, "maxItems": 1}


def many(schema: Schema) -> Schema:
    """A parameter that may be repeated."""
    return {"type": "array", "items": schema}


STRINGS = many({"type": "string"})
COMMON = many({"type": "string", "format": "regex"})
PAGING: Schema = {"limit": many(NON_NEGATIVE), "marker": STRINGS}


def query(properties: Schema, *, strict: bool = False) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": not strict}
