"""One request to the compute API, and its answer.

A `Call` is what every handler gets: the caller, the negotiated microversion (as the number after "2."), path
parameters, query and body. A handler returns a `Reply` or raises a `domain.errors.Rejected`; it never writes to the
connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope

from api.http import decoded, version_of
from api.links import base_url
from commands.context import CommandContext
from domain.errors import Invalid, Rejected

if TYPE_CHECKING:
    from api.auth import Caller
    from api.services import Services

_encode = msgspec.json.Encoder().encode

_JSON = (b"content-type", b"application/json")
# What a body may call itself. Clients that call it nothing, or plain text, send JSON too.
_BODIES = frozenset({"", "application/json", "application/vnd.openstack.compute+json", "text/plain"})

Run = TypeVar("Run")


class Reply:
    """Status, body and extra headers of an answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = headers or []


def reply(value: object, status: int = 200, *, location: str | None = None) -> Reply:
    """An answer with a JSON body."""
    headers = [_JSON]
    if location is not None:
        headers.append((b"location", location.encode()))
    return Reply(status, _encode(value), headers)


def chosen(body: dict[str, Any], actions: Mapping[str, Run]) -> Run:
    """What carries out the one action that a body names. Raises `Invalid`."""
    if not body:
        raise Invalid("Malformed request body", hint=f"Name one of: {', '.join(actions)}.")
    key = next(iter(body))
    if key not in actions:
        raise Invalid(f"There is no such action: {key}", hint=f"There are: {', '.join(actions)}.")
    return actions[key]


def empty(status: int, *, location: str | None = None) -> Reply:
    return Reply(status, b"", [(b"location", location.encode())] if location is not None else None)


class Call:
    """See the module's text. `version` is 96 for microversion 2.96."""

    __slots__ = (
        "_base",
        "_body",
        "_query",
        "caller",
        "params",
        "project_path",
        "receive",
        "request_id",
        "scope",
        "services",
        "version",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        services: Services,
        caller: Caller,
        request_id: str,
        version: int,
        params: tuple[str, ...],
        project_path: str = "",
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.services = services
        self.caller = caller
        self.request_id = request_id
        self.version = version
        self.params = params
        self.project_path = project_path
        self._base: str | None = None
        self._body: object = msgspec.UNSET
        self._query: dict[str, list[str]] | None = None

    @property
    def root(self) -> str:
        """The address of the compute API as the caller reached it, such as `http://127.0.0.1:8774/compute`."""
        if self._base is None:
            self._base = base_of(self.scope)
        return self._base

    @property
    def project_id(self) -> str | None:
        return self.caller.actor.project_id

    @property
    def is_admin(self) -> bool:
        return "admin" in self.caller.actor.roles

    @property
    def context(self) -> CommandContext:
        """What a command needs to know of the caller. The idempotency key and If-Match are ours, not Nova's."""
        key = version = None
        for name, value in self.scope["headers"]:
            if name == b"idempotency-key":
                key = value.decode("latin-1")
                if not 0 < len(key) <= 255:
                    raise Invalid("Idempotency-Key has to be 1 to 255 characters long")
            elif name == b"if-match":
                version = version_of(value.decode("latin-1"))
        return CommandContext(
            actor=self.caller.actor, request_id=self.request_id, idempotency_key=key, if_match=version
        )

    @property
    def query(self) -> dict[str, list[str]]:
        """The query: every name with its values, in order."""
        if self._query is None:
            found: dict[str, list[str]] = {}
            raw = self.scope.get("query_string", b"")
            if raw:
                for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
                    found.setdefault(name, []).append(value)
            self._query = found
        return self._query

    def argument(self, name: str, default: str | None = None) -> str | None:
        """The last value of a query parameter."""
        values = self.query.get(name)
        return values[-1] if values else default

    async def body(self) -> Any:
        """The decoded JSON body. Raises `Invalid` when it is missing or is not JSON, 415 when it says so itself."""
        if self._body is msgspec.UNSET:
            given = (self.header(b"content-type") or "").partition(";")[0].strip().lower()
            if given not in _BODIES:
                raise Rejected("Unsupported Content-Type", hint="Send application/json.", code=415, reason="media_type")
            self._body = decoded(await _read(self.receive))
        return self._body

    @property
    def given(self) -> Any:
        """The body as far as it was read; None before."""
        return None if self._body is msgspec.UNSET else self._body

    async def object(self) -> dict[str, Any]:
        """The body, which has to be a JSON object."""
        value = await self.body()
        if not isinstance(value, dict):
            raise Invalid("Malformed request body", hint="The body must be one JSON object.")
        return cast("dict[str, Any]", value)

    def header(self, name: bytes) -> str | None:
        """A request header by its lower-case name."""
        headers: list[tuple[bytes, bytes]] = self.scope["headers"]
        return next((value.decode("latin-1") for key, value in headers if key == name), None)


def base_of(scope: Scope) -> str:
    return base_url(HTTPConnection(scope)) + str(scope.get("root_path", ""))


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


def flag(value: Any) -> bool:
    """A boolean as Nova's bodies and queries write it."""
    return value if isinstance(value, bool) else str(value).strip().lower() in {"1", "t", "true", "on", "y", "yes"}
