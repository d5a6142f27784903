"""The values that an image may have, checked the same way when it is created and when it is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.auth import Caller
from api.image.view import BASE_FIELDS
from api.shapes import flag, number, strings, text
from domain.errors import Forbidden, Invalid

CONTAINER_FORMATS = ("bare", "ovf", "ova", "ami", "aki", "ari", "docker", "compressed")
DISK_FORMATS = ("raw", "qcow2", "iso", "ami", "aki", "ari", "vhd", "vhdx", "vmdk", "vdi", "ploop")
VISIBILITIES = ("public", "private", "shared", "community")
MOST_PROPERTIES = 128
MOST_TAGS = 128
LONGEST_PROPERTY = 16384
_READ_ONLY = BASE_FIELDS - {
    "name",
    "visibility",
    "container_format",
    "disk_format",
    "min_disk",
    "min_ram",
    "os_hidden",
    "protected",
    "owner",
    "tags",
}


def checked(body: Mapping[str, Any], who: Caller, *, keep_public: bool = False) -> dict[str, Any]:
    """The fields of a body as the aggregate keeps them, without free properties."""
    fields: dict[str, Any] = {}
    for key in body:
        if key in _READ_ONLY:
            raise Forbidden(f"Attribute '{key}' is read-only.")
    if "name" in body:
        fields["name"] = text(body, "name", "") or ""
    for key, known in (("container_format", CONTAINER_FORMATS), ("disk_format", DISK_FORMATS)):
        if key in body:
            fields[key] = text(body, key, None)
            if fields[key] is not None and fields[key] not in known:
                raise Invalid(f"{key} has to be one of {', '.join(known)}, not {fields[key]!r}")
    for key in ("min_disk", "min_ram"):
        if key in body:
            fields[key] = number(body, key)
    for key in ("os_hidden", "protected"):
        if key in body:
            fields[key] = flag(body, key)
    if "visibility" in body:
        fields["visibility"] = _visibility(body, who, keep_public)
    if "tags" in body:
        fields["tags"] = sorted(set(strings(body, "tags", most=MOST_TAGS)))
    if "owner" in body:
        owner = text(body, "owner", None)
        if owner != who.project_id and not who.is_admin:
            raise Forbidden("You are not permitted to give images to another project")
        fields["project_id"] = owner
    return fields


def _visibility(body: Mapping[str, Any], who: Caller, keep_public: bool) -> str:
    found = text(body, "visibility")
    if found not in VISIBILITIES:
        raise Invalid(f"visibility has to be one of {', '.join(VISIBILITIES)}, not {found!r}")
    if found == "public" and not who.is_admin and not keep_public:
        raise Forbidden("You are not authorized to make images public", hint="An admin can publish it")
    return found


def properties(body: Mapping[str, Any]) -> dict[str, str]:
    """The free properties of a body: everything that is no field, as strings."""
    found: dict[str, str] = {}
    for key, value in body.items():
        if key in BASE_FIELDS:
            continue
        if not 0 < len(key) <= 255 or not isinstance(value, str):
            raise Invalid(f"Property {key[:255]!r} has to be a string with a name of at most 255 characters")
        if len(value) > LONGEST_PROPERTY:
            raise Invalid(f"Property {key!r} is longer than {LONGEST_PROPERTY} characters")
        found[key] = value
    return must_be_few(found)


def must_be_few(found: dict[str, str]) -> dict[str, str]:
    if len(found) > MOST_PROPERTIES:
        raise Invalid(f"An image has at most {MOST_PROPERTIES} properties")
    return found
