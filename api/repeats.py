"""`Idempotency-Key` on every request that changes something: a repeat is answered as the first one was.

The answer to the first request (a refusal too, but no 5xx) is kept, sealed, for a day under the key of its caller; a
repeat with the same method, path and body gets it without being carried out, and one that comes at the same time waits
for it. Another request under the key is 422. What gives commands to servers by itself under the key (/v1, the viewer,
the creation of servers) and image data, which is not held in memory, pass through. Without a key nothing is done here.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from api.auth import Caller
from commands.context import CommandContext
from commands.idempotency import nothing_found
from domain.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from api.services import Services

HEADER = b"idempotency-key"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_PASSES = re.compile(
    r"/(v1|ui|console)/.*|/compute/v2\.1(/[^/]+)?/(servers|os-volumes_boot)|/image/v2/images/[^/]+/file"
)


class _Answer(msgspec.Struct):
    status: int = 0
    headers: list[tuple[bytes, bytes]] = []
    body: bytes = b""

    async def write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class Repeats:
    """See the module's text. Stands behind the authentication: keys belong to a caller."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = None
        if scope["type"] == "http" and scope["method"] not in _READS:
            key = next((value for name, value in scope["headers"] if name == HEADER), None)
        caller = scope["state"].get("caller") if key is not None else None
        if key is None or not isinstance(caller, Caller) or _PASSES.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        context = CommandContext(caller.actor, scope["state"]["request_id"], key.decode("latin-1"))
        try:
            body = await _body(receive)
            if body is None:
                return  # nobody waits for an answer
            answer = await self._answer(scope, body, context)
        except Rejected as error:
            await errors.render(scope, error)(scope, receive, send)
            return
        await answer.write(send)

    async def _answer(self, scope: Scope, body: bytes, context: CommandContext) -> _Answer:
        commands = self.services.commands
        given = _Answer()

        async def work() -> dict[str, Any]:
            await self._ask(scope, body, given)
            if given.status >= 500:
                raise Unavailable("An answer that is not kept")
            return {"sealed": commands.settings.seal(_packed(given))}

        request = [scope["method"], scope["path"], scope.get("query_string", b"").decode("latin-1"), _plain(body)]
        try:
            kept = await commands.idempotency.run(context, request, nothing_found, work, scope="http:")
        except Unavailable:
            if not given.status:
                raise
            return given
        return given if given.status else _unpacked(commands.settings.unseal(kept["sealed"]))

    async def _ask(self, scope: Scope, body: bytes, given: _Answer) -> None:
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                given.status, given.headers = message["status"], list(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                given.body += message.get("body", b"")

        await self.app(scope, receive, send)


def _packed(answer: _Answer) -> str:
    """An answer as text, a fraction of its size: what is kept under a key has a limit."""
    return base64.b85encode(zlib.compress(msgspec.json.encode(answer))).decode()


def _unpacked(text: str) -> _Answer:
    if text.startswith("{"):  # kept by a version that did not pack
        return msgspec.json.decode(text, type=_Answer)
    return msgspec.json.decode(zlib.decompress(base64.b85decode(text)), type=_Answer)


async def _body(receive: Receive) -> bytes | None:
    """The whole body, within the limit that `BodyLimit` watches; None when the caller went away."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _plain(body: bytes) -> Any:
    """What a request is compared by: its JSON value, so that spaces and the order of keys do not matter."""
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, RecursionError):
        return hashlib.sha256(body).hexdigest()
