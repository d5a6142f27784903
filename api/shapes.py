"""Reading fields of a JSON body by name and type, with refusals that name the field.

For the small APIs, whose bodies are flat. A field that is missing gives the default; a field of another type is a 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from domain.errors import Invalid

T = TypeVar("T")

LONGEST_NAME = 255
LONGEST_TEXT = 65535


MOST = 10**18
"""More than anything is counted to here; longer numbers are taken for it."""


def whole(text: str) -> int | None:
    """The number that a text of ASCII digits writes, at most `MOST`; null for another text.

    `int` alone raises for what `isdigit` lets through: other scripts' superscripts, and thousands of digits.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text) if len(text) < 19 else MOST


class _Required:
    """Marks a field that has no default."""


REQUIRED = _Required()


def text(body: Mapping[str, Any], key: str, default: Any = REQUIRED, *, longest: int = LONGEST_NAME) -> str:
    """A string of at most `longest` characters. With a default of None a null is taken as missing."""
    value = body.get(key)
    if value is None:
        missing: str = _default(key, default)
        return missing
    if not isinstance(value, str):
        raise Invalid(f"{key} has to be a string")
    if len(value) > longest:
        raise Invalid(f"{key} is longer than {longest} characters")
    return value


def name(body: Mapping[str, Any], key: str = "name", default: Any = REQUIRED, *, longest: int = LONGEST_NAME) -> str:
    """A string that is not blank."""
    value = text(body, key, default, longest=longest)
    if isinstance(value, str) and not value.strip() and key in body:
        raise Invalid(f"{key} must not be empty")
    return value


def flag(body: Mapping[str, Any], key: str, default: Any = REQUIRED) -> bool:
    value = body.get(key)
    if value is None:
        missing: bool = _default(key, default)
        return missing
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise Invalid(f"{key} has to be true or false")


def number(body: Mapping[str, Any], key: str, default: Any = REQUIRED, *, least: int = 0, most: int = 2**31 - 1) -> int:
    """A whole number from `least` to `most`; numbers written as text are taken too, as OpenStack does."""
    value = body.get(key)
    if value is None:
        missing: int = _default(key, default)
        return missing
    if isinstance(value, str) and (size := whole(value.removeprefix("-"))) is not None:
        value = -size if value.startswith("-") else size
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid(f"{key} has to be a whole number")
    if not least <= value <= most:
        raise Invalid(f"{key} has to be from {least} to {most}, not {value}")
    return value


def strings(body: Mapping[str, Any], key: str, default: Any = REQUIRED, *, most: int = 100) -> list[str]:
    """A list of strings."""
    value = body.get(key)
    if value is None:
        return _default(key, default)
    if not isinstance(value, list) or not all(isinstance(one, str) and len(one) <= LONGEST_NAME for one in value):
        raise Invalid(f"{key} has to be a list of strings of at most {LONGEST_NAME} characters")
    if len(value) > most:
        raise Invalid(f"{key} holds more than {most} entries")
    return value


def mapping(body: Mapping[str, Any], key: str, default: Any = REQUIRED) -> dict[str, Any]:
    """An object."""
    value = body.get(key)
    if value is None:
        return _default(key, default)
    if not isinstance(value, dict):
        raise Invalid(f"{key} has to be an object")
    return value


def string_mapping(body: Mapping[str, Any], key: str, default: Any = REQUIRED, *, most: int = 128) -> dict[str, str]:
    """An object whose values are strings of at most 255 characters, such as metadata."""
    value = mapping(body, key, default)
    if value is None:
        return value
    if len(value) > most:
        raise Invalid(f"{key} holds more than {most} entries")
    for one, held in value.items():
        if not 0 < len(one) <= LONGEST_NAME or not isinstance(held, str) or len(held) > LONGEST_NAME:
            raise Invalid(f"{key} has to map names to strings, each at most {LONGEST_NAME} characters long")
    return value


def _default(key: str, default: T | _Required) -> T:
    if isinstance(default, _Required):
        raise Invalid(f"{key} is missing")
    return default
