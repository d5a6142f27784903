"""Reading a request and writing a JSON answer: the few helpers that every API shares.

A body is refused with a 4xx that names what is wrong: no JSON, not an object, another media type. Nothing here knows an
API; the error's form is decided by `api.errors`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from commands.context import CommandContext
from domain.errors import Invalid, Rejected

if TYPE_CHECKING:
    from api.auth import Caller
    from api.services import Services

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
DEEPEST = 64  # levels of a body; what reads bodies after us calls itself once or more per level
LONGEST_NAME_SHOWN = 64  # characters of a name in a refusal


class Json(Response):
    """A JSON answer, encoded by msgspec (structs and datetimes included)."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encode(content)


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def caller(request: Request) -> Caller:
    """Who sent the request. The authentication middleware has put it there for every path that needs a token."""
    found: Caller | None = request.scope["state"].get("caller")
    if found is None:
        raise Rejected("The request you have made requires authentication", code=401, reason="unauthorized")
    return found


def context(request: Request, *, dry_run: bool = False) -> CommandContext:
    """The command context of a request: caller, request id, and the headers Idempotency-Key and If-Match."""
    headers = request.headers
    key = headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= 255:
        raise Invalid("Idempotency-Key has to be 1 to 255 characters long")
    return CommandContext(
        actor=caller(request).actor,
        request_id=request.scope["state"]["request_id"],
        idempotency_key=key,
        if_match=version_of(headers.get("if-match")),
        dry_run=dry_run,
    )


def version_of(if_match: str | None) -> int | None:
    """The version in an If-Match header: `"7"` or `7`; None for no header and for `*`."""
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Invalid(f'If-Match has to be a version such as "7", not {if_match!r}')
    return int(text)


async def json_body(request: Request, *media_types: str) -> Any:
    """The decoded body, whatever JSON it is. Raises 400 for malformed JSON and 415 for another media type."""
    given = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if given not in (media_types or ("application/json",)):
        wanted = " or ".join(media_types or ("application/json",))
        raise Rejected(
            f"Unsupported Content-Type {given or '(empty)'}", hint=f"Send {wanted}", code=415, reason="media_type"
        )
    body = decoded(await request.body())
    request.scope["state"]["asked"] = body  # for the record, should it be refused
    return body


def decoded(raw: bytes) -> Any:
    """The JSON value of a body.

    Raises 400 for what is no JSON, is nested more than `DEEPEST` levels deep, or holds a null character.
    """
    try:
        value = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"Malformed request body: {error}", hint="Send one valid JSON document") from error
    except RecursionError as error:
        raise _too_deep() from error
    # Fewer brackets than levels allowed: nearly every body is let through by this count alone.
    if raw.count(b"[") + raw.count(b"{") > DEEPEST and _deeper_than(value, DEEPEST):
        raise _too_deep()
    # For nearly every body the first of these looks, for a single byte, is the last.
    if b"\\" in raw and rb"\u0000" in raw:
        refuse_nulls(value)
    return value


def refuse_nulls(value: Any) -> None:
    """Raises 400 for a null character in any string or name of a body: PostgreSQL's text can hold none."""
    place = _null_in(value)
    if place is not None:
        message = f"Malformed request body: {place.removeprefix('.') or 'it'} holds a null character"
        raise Invalid(message, hint="Leave the null character out")


def _null_in(value: Any) -> str | None:
    """Where the first null character is, such as `.server.tags[2]` (empty: in the value itself); None without one."""
    if isinstance(value, str):
        return "" if "\0" in value else None
    if isinstance(value, dict):
        for key, held in value.items():
            found = "" if "\0" in key else _null_in(held)
            if found is not None:
                return f".{key[:LONGEST_NAME_SHOWN]}{found}".replace("\0", "\ufffd")
    elif isinstance(value, list):
        for index, held in enumerate(value):
            if (found := _null_in(held)) is not None:
                return f"[{index}]{found}"
    return None


def _too_deep() -> Invalid:
    return Invalid(f"Malformed request body: it is nested more than {DEEPEST} levels deep", hint="Send a flatter one")


def _deeper_than(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        inner = (list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [item for items in inner for item in items]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)


async def json_object(request: Request) -> dict[str, Any]:
    body = await json_body(request)
    if not isinstance(body, dict):
        raise Invalid("The request body has to be a JSON object")
    return body


async def wrapped_object(request: Request, key: str) -> dict[str, Any]:
    """The object under the one key that most OpenStack bodies have: `{"user": {...}}`."""
    body = await json_object(request)
    inner = body.get(key)
    if not isinstance(inner, dict):
        raise Invalid(f"The request body has to be an object with an object under '{key}'")
    return inner


def moment(text: str) -> datetime:
    """A time as people write it, in UTC (as it is taken to be when it names no zone). Raises ValueError.

    A time that its offset carries out of the years 1 to 9999 is none.
    """
    found = datetime.fromisoformat(text)
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is out of range") from error


def timestamp(moment: datetime | None) -> str | None:
    """`2026-01-02T03:04:05Z`, the form of compute, image, network and volume resources."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def micro_timestamp(moment: datetime | None) -> str | None:
    """`2026-01-02T03:04:05.000000Z`, the form of identity."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None


def boolean(text: str) -> bool:
    """A query parameter as a boolean, in every spelling that OpenStack clients use."""
    low = text.strip().lower()
    if low in ("true", "1", "yes", "on", "t", "y"):
        return True
    if low in ("false", "0", "no", "off", "f", "n"):
        return False
    raise Invalid(f"{text!r} is not a boolean", hint="Use true or false")
