"""A JSON patch on an image: add, replace and remove of one top-level member (or of the tags as a whole)."""

from __future__ import annotations

from typing import Any

from api.auth import Caller
from api.image.fields import checked, must_be_few, properties
from api.image.view import BASE_FIELDS
from domain.errors import Conflict, Forbidden, Invalid
from domain.resources import Image

MOST_OPERATIONS = 256
_REMOVED_TO: dict[str, Any] = {"name": "", "tags": [], "container_format": None, "disk_format": None}


def patched(image: Image, operations: Any, who: Caller) -> dict[str, Any]:
    """The fields that the patch changes, with their new values. Raises 400, 403 and 409 as Glance does."""
    if not isinstance(operations, list) or len(operations) > MOST_OPERATIONS:
        raise Invalid(f"Request body must be a JSON array of at most {MOST_OPERATIONS} operation objects.")
    free = dict(image.properties)
    changes: dict[str, Any] = {}
    for operation in operations:
        verb, key = _parsed(operation)
        if key in BASE_FIELDS:
            changes |= _base(image, verb, key, operation, who)
        elif verb == "remove":
            if key not in free:
                raise Conflict(f"Property {key} does not exist.")
            del free[key]
        else:
            if verb == "replace" and key not in free:
                raise Conflict(f"Property {key} does not exist.", hint="Use add")
            free |= properties({key: operation["value"]})
    if free != image.properties:
        changes["properties"] = must_be_few(free)
    return changes


def _base(image: Image, verb: str, key: str, operation: dict[str, Any], who: Caller) -> dict[str, Any]:
    if verb == "remove":
        if key not in _REMOVED_TO:
            raise Forbidden(f"Property {key} may not be removed.")
        return {key: _REMOVED_TO[key]}
    fields = checked({key: operation["value"]}, who, keep_public=image.visibility == "public")
    if key in ("disk_format", "container_format") and image.status != "queued":
        raise Forbidden(f"Attribute {key} can be replaced only for a queued image.")
    return fields


def _parsed(operation: Any) -> tuple[str, str]:
    if not isinstance(operation, dict):
        raise Invalid("Operations must be JSON objects.")
    verb = operation.get("op")
    path = operation.get("path")
    if verb is None:
        verb = next((one for one in ("add", "replace", "remove") if one in operation), None)
        path = operation.get(verb) if verb else None  # the form of media type v2.0
    if verb not in ("add", "replace", "remove"):
        raise Invalid("Operation objects must contain exactly one member named 'add', 'remove' or 'replace'.")
    if not isinstance(path, str) or not path.startswith("/") or path.count("/") != 1 or len(path) < 2:
        raise Invalid(f"Invalid JSON pointer for this resource: {path!r}", hint="Name one member, such as /name")
    if verb != "remove" and "value" not in operation:
        raise Invalid(f"Operation {verb!r} requires a member named 'value'.")
    return str(verb), path[1:].replace("~1", "/").replace("~0", "~")
