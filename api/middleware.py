"""What every request passes before a handler sees it, as plain ASGI: identity of the request, size limit, caller.

`RequestContext` gives each request its own id (`X-Openstack-Request-Id`; an id that the caller sent is kept beside it
as the global one), writes one access log line, counts it, refuses an address that holds a null character, and is the
boundary where an unexpected error becomes a 500.
`BodyLimit` refuses what is larger than its path allows, declared or not. `Authentication` puts the caller of a token
into the request's state; version documents and the operations endpoints answer without one.
"""

from __future__ import annotations

import re
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors, metrics, refusals
from api.auth import Caller, seen_from
from api.errors import Unauthorized
from api.links import base_url
from api.services import Services
from domain.errors import Forbidden, Invalid, Rejected, TooLarge

TOKEN_COOKIE = "chronova_token"

_log = structlog.get_logger("chronova.api")
_GLOBAL_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_IMAGE_DATA = re.compile(r"/image/v2/images/[^/]+/file")

# Paths that answer without a token: the version documents, what monitors read, and the pages that sign people in.
_OPEN_PATHS = frozenset(
    {
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/favicon.ico",
        "/identity/",
        "/identity/v3",
        "/compute/",
        "/compute/v2.1",
        "/image/",
        "/image/versions",
        "/network/",
        "/volume/",
        "/volume/v3",
        "/placement/",
    }
)
_OPEN_POSTS = frozenset({"/identity/v3/auth/tokens"})
_OPEN_TREES = ("/ui/", "/console/")  # they check the token (cookie or one-time token) themselves
_COOKIE_TREES = ("/ui/", "/console/", "/v1/")


class RequestContext:
    """Request id, access log, metrics, what was refused, and the last resort for errors."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.services = services
        self.access_log = services.settings.access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        request_id = f"req-{uuid4()}"
        state["request_id"] = request_id
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-openstack-request-id", "")
        if _GLOBAL_ID.fullmatch(sent):
            state["global_request_id"] = sent
        path = scope["path"] = canonical(scope["path"])
        family = errors.family_of(path)
        extra = [(b"x-openstack-request-id", request_id.encode())]
        if family == "compute":
            extra.append((b"x-compute-request-id", request_id.encode()))
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        try:
            if (null := _null_refused(path, scope.get("query_string", b""))) is not None:
                await errors.render(scope, null)(scope, receive, send_with_id)
                return
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            refusal = errors.as_rejected(error)
            if refusal is None or status:
                _log.exception("unexpected_error", request_id=request_id, method=scope["method"], path=path)
            if status:
                raise  # half an answer is out: the connection has to break
            if refusal is None:
                refusal = Rejected(f"{errors.UNEXPECTED}: {type(error).__name__}", code=500, reason="internal_error")
            await errors.render(scope, refusal)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            metrics.observe(family, scope["method"], status, seconds)
            if self.access_log:
                self._write(scope, state, status, seconds)
            if "refused" in state:
                await refusals.keep(self.services, scope)

    def _write(self, scope: Scope, state: dict[str, object], status: int, seconds: float) -> None:
        caller = state.get("caller")
        actor = caller.actor if isinstance(caller, Caller) else None
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(seconds * 1000, 2),
            "request_id": state["request_id"],
            "remote": scope["client"][0] if scope.get("client") else "",
        }
        if actor is not None:
            fields["user_id"] = actor.user_id
            fields["project_id"] = actor.project_id
        if "global_request_id" in state:
            fields["global_request_id"] = state["global_request_id"]
        _log.info("request", **fields)


def _null_refused(path: str, query: bytes) -> Invalid | None:
    """The refusal of an address with a null character: nothing has such a name, and PostgreSQL can not look for it.

    Raw ones, here and in headers, are refused by the HTTP server already; bodies are looked at by `api.http`.
    """
    place = "path" if "\0" in path else "query" if b"%00" in query else ""
    return Invalid(f"The {place} holds a null character (%00)", hint="Leave it out") if place else None


def canonical(path: str) -> str:
    """One spelling per path: no slash at the end, except that a mount's own document is `/compute/`."""
    if path.count("/") == 1 and path[1:] in MOUNTS:
        return path + "/"
    if path.endswith("/") and not (path.count("/") == 2 and path[1:-1] in MOUNTS):
        return path.rstrip("/") or "/"
    return path


MOUNTS = frozenset({"identity", "compute", "image", "network", "volume", "placement", "v1", "ui", "console"})


class BodyLimit:
    """Refuses bodies over the limit with 413: by their declared length, or as soon as too much has arrived."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.settings = services.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        limit = self.settings.max_body_bytes
        if _IMAGE_DATA.fullmatch(scope["path"]):
            limit = self.settings.max_image_bytes
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared) > limit:
            await errors.render(scope, _too_large(limit))(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _too_large(limit)
            return message

        await self.app(scope, counted, send)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The request body is larger than {limit} bytes", hint="Send less, or ask the operator to raise the limit"
    )


class Authentication:
    """Finds the caller of the request's token. A token that was checked a moment ago costs one dict look-up."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.tokens = services.tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = scope["path"]
        try:
            token = _token(scope, headers, path)
            found = (self.tokens.cached(token) or await self.tokens.check(token)) if token else None
        except Rejected as error:
            await errors.render(scope, error)(scope, receive, send)
            return
        if found is not None:
            remote = scope["client"][0] if scope.get("client") else ""
            scope["state"]["caller"] = seen_from(found, remote)
        elif scope["type"] == "http" and not is_open(scope["method"], path):
            await self._refuse(scope, receive, send, token)
            return
        await self.app(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, token: str) -> None:
        if token:
            error = Unauthorized("The token is not valid", hint="It has expired or was revoked: sign in again")
        else:
            hint = "Send the token of POST /identity/v3/auth/tokens in the header X-Auth-Token"
            error = Unauthorized("The request you have made requires authentication", hint=hint)
        response = errors.render(scope, error)
        response.headers["www-authenticate"] = f'Keystone uri="{base_url(HTTPConnection(scope))}/identity/v3"'
        await response(scope, receive, send)


def is_open(method: str, path: str) -> bool:
    """Whether a request is answered without a token."""
    if path in _OPEN_PATHS:
        return method in ("GET", "HEAD", "OPTIONS")
    return path.startswith(_OPEN_TREES) or (method == "POST" and path in _OPEN_POSTS)


def _token(scope: Scope, headers: Headers, path: str) -> str:
    token = headers.get("x-auth-token")
    if token:
        return token
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if not path.startswith(_COOKIE_TREES) or "cookie" not in headers:
        return ""
    try:
        morsel = SimpleCookie(headers["cookie"]).get(TOKEN_COOKIE)
    except CookieError:
        return ""
    if morsel is None:
        return ""
    if scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS"):
        _must_be_same_origin(headers)
    return morsel.value


def _must_be_same_origin(headers: Headers) -> None:
    """A browser sends cookies along with requests that other sites make: those may not change anything."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise Forbidden("The request comes from another site", hint="Use the viewer at the address of this API")
    if origin is None and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("The request comes from another site", hint="Use the viewer at the address of this API")
