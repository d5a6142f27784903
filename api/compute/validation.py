"""Checking bodies and queries against schemas, with Nova's messages.

A schema set is a table of schemas by the microversion from which each holds; validators are made once, at import. The
first thing wrong is reported, in schema order, as Nova does:
"Invalid input for field/attribute name. Value: ... '...' is too long".
Source: the behaviour of nova.api.validation, re-stated here; see tests for the sentences.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from jsonschema import Draft4Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from api.compute.versions import MAX_VERSION, MIN_VERSION
from api.http import moment
from domain.errors import Invalid

formats = FormatChecker(formats=())

_Check = TypeVar("_Check", bound=Callable[[object], bool])


def _format(name: str, *raises: type[Exception]) -> Callable[[_Check], _Check]:
    """Register a format. The library's own decorator has no types."""

    def register(check: _Check) -> _Check:
        formats.checks(name, raises)(check)
        return check

    return register


_NAME_RULE = "An invalid '{}' value was provided. The {} must be: {}"
_PRINTABLE = "printable characters. Can not start or end with whitespace."


class InvalidName(ValueError):
    """The text is a whole sentence for the caller, which replaces the usual one."""


def _is_printable(text: str) -> bool:
    return all(unicodedata.category(char) not in {"Cc", "Cs", "Co", "Cn"} for char in text)


@_format("name", InvalidName)
def _name(value: object) -> bool:
    if isinstance(value, str) and (value.strip() != value or not value or not _is_printable(value)):
        raise InvalidName(_NAME_RULE.format("name", "name", _PRINTABLE))
    return True


@_format("az_name", InvalidName)
def _az_name(value: object) -> bool:
    if isinstance(value, str) and (value.strip() != value or not value or ":" in value or not _is_printable(value)):
        text = "printable characters except :. Can not start or end with whitespace."
        raise InvalidName(_NAME_RULE.format("name", "name", text))
    return True


@_format("keypair_name", InvalidName)
def _keypair_name(value: object) -> bool:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9 _-]*", value):
        raise InvalidName("Keypair data is invalid: Keypair name contains unsafe characters")
    return True


@_format("keypair_name_292", InvalidName)
def _keypair_name_292(value: object) -> bool:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9@._ -]*", value):
        raise InvalidName("Keypair data is invalid: Keypair name contains unsafe characters")
    return True


@_format("uuid")
def _uuid(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        return str(uuid.UUID(value)).replace("-", "") == value.lower().replace("-", "")
    except ValueError:
        return False


@_format("base64")
def _base64(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


@_format("regex")
def _regex(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        re.compile(value)
    except (re.error, OverflowError):
        return False
    return True


@_format("date-time")
def _date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        moment(value)
    except ValueError:
        return False
    return True


@_format("ipv4", ValueError)
def _ipv4(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.IPv4Address(value))


@_format("ipv6", ValueError)
def _ipv6(value: object) -> bool:
    return not isinstance(value, str) or ipaddress.IPv6Address(value) is not None


def _minimum(validator: Any, minimum: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """As the plain rule, but numbers may be written as strings."""
    number = _number(instance)
    if number is not None and number < minimum:
        yield ValidationError(f"{number!r} is less than the minimum of {minimum!r}")


def _maximum(validator: Any, maximum: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    number = _number(instance)
    if number is not None and number > maximum:
        yield ValidationError(f"{number!r} is greater than the maximum of {maximum!r}")


def _number(instance: Any) -> int | float | None:
    if isinstance(instance, bool):
        return None
    if isinstance(instance, int | float):
        return instance
    try:
        return int(instance)
    except (TypeError, ValueError):
        return None


_Validator = extend(
    Draft4Validator,
    {"minimum": _minimum, "maximum": _maximum},
    format_checker=formats,
)

Schema = Mapping[str, Any]

# Small values that were right before are right again: clients send the same few bodies over and over. Only digests are
# kept, because a body may hold a password.
SMALL = 128
KEPT = 4096
_right: set[tuple[int, bytes]] = set()
_encode = msgspec.json.Encoder().encode


def _sentence(error: ValidationError, *, query: bool) -> str:
    if isinstance(error.cause, InvalidName):
        return str(error.cause)
    if not error.path:
        return str(error.message)
    where = error.path[0] if query else error.path[-1]
    kind = "query parameters" if query else "field/attribute"
    return f"Invalid input for {kind} {where}. Value: {error.instance}. {error.message}"


class Schemas:
    """Schemas by the microversion from which each holds, for bodies or (`query=True`) for queries."""

    def __init__(self, *by_version: tuple[int, Schema], query: bool = False) -> None:
        self._query = query
        self._validators: list[Any] = [None] * (MAX_VERSION + 1)
        for since, schema in by_version:
            validator = _Validator(schema, format_checker=formats)
            for version in range(max(since, MIN_VERSION), MAX_VERSION + 1):
                self._validators[version] = validator
        self.all: Sequence[tuple[int, Schema]] = by_version

    def check(self, version: int, value: Any) -> None:
        """Raise `Invalid` with the first thing that is wrong. Without a schema at this version everything is right."""
        validator = self._validators[version]
        if validator is None:
            return
        encoded = _encode(value)
        key = (id(validator), sha256(encoded).digest()) if len(encoded) <= SMALL else None
        if key in _right:
            return
        for error in validator.iter_errors(value):
            raise Invalid(_sentence(error, query=self._query), reason="schema")
        if key is not None and len(_right) < KEPT:
            _right.add(key)
