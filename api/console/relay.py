"""The WebSocket of a console: a person on one side, the guest's screen or serial port on the other.

It is opened with a token (see `grants`). A token that grants nothing is refused before the handshake is done; what goes
wrong later closes the socket with a code of `CLOSE` and a sentence that the page shows.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.console.grants import ConsoleGrant, name_of, read_token
from api.services import Services
from commands.consoles import ConsoleEnded, ConsoleLine, open_line
from domain.errors import Rejected

MOST_OPEN = 256
# Close codes 4000-4999 are an application's own: 4000 and the HTTP status that it would have been.
REFUSED, NO_CONSOLE, ENDED, FULL = 4401, 4409, 4410, 4429
REASON_BYTES = 123  # the most that a WebSocket's close frame takes

_log = structlog.get_logger("chronova.console")


class Consoles:
    """The open consoles of one API process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._open = 0

    async def connect(self, socket: WebSocket) -> None:
        """Open the console that the query's token stands for."""
        token = socket.query_params.get("token", "")
        grant = await asyncio.to_thread(read_token, self._services.settings.data_dir, token)
        if grant is None:
            await socket.close(REFUSED, "The console token is not valid or has expired: ask for a new console")
            return
        wanted = socket.scope.get("subprotocols") or []
        await socket.accept(subprotocol="binary" if "binary" in wanted else None)
        code, why = await self._serve(socket, token, grant)
        with suppress(RuntimeError, WebSocketDisconnect):  # the caller has closed it already
            await socket.close(code, why.encode()[:REASON_BYTES].decode(errors="ignore"))

    async def _serve(self, socket: WebSocket, token: str, grant: ConsoleGrant) -> tuple[int, str]:
        """Carry until one side ends; the code and the reason to close with."""
        if self._open >= MOST_OPEN:
            return FULL, "Too many consoles are open: close one"
        self._open += 1
        about = {"server_id": grant.server_id, "kind": grant.kind, "user_id": grant.user_id}
        good = grant.issued_at, grant.expires_at
        try:
            line = await open_line(self._services.commands, grant.server_id, grant.protocol, name_of(token), *good)
        except Rejected as error:
            self._open -= 1
            return NO_CONSOLE, str(error)
        _log.info("console_opened", **about)
        try:
            return ENDED, await _carry(socket, line)
        finally:
            self._open -= 1
            await line.close()
            _log.info("console_closed", **about)


async def _carry(socket: WebSocket, line: ConsoleLine) -> str:
    ways = {asyncio.create_task(_to_guest(socket, line)), asyncio.create_task(_to_caller(socket, line))}
    try:
        ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(ended)).result()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _to_guest(socket: WebSocket, line: ConsoleLine) -> str:
    """Until the caller leaves, or the guest takes nothing more; why."""
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return ""
            await line.write(message.get("bytes") or (message.get("text") or "").encode())
    except ConsoleEnded as ended:
        return str(ended)


async def _to_caller(socket: WebSocket, line: ConsoleLine) -> str:
    """Until the guest's side ends, or nobody listens; why."""
    try:
        while True:
            if data := await line.read():
                await socket.send_bytes(data)
    except ConsoleEnded as ended:
        return str(ended)
    except (WebSocketDisconnect, RuntimeError):
        return ""
