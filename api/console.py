"""Consoles of guests: a WebSocket on one side, the guest's screen or serial port on the other.

A console is opened with the token that the compute API gave out; each token opens one connection. The server's host
says where its console listens; that is reached from the machine of the API, so consoles of hosts on other machines need
an API process there. Screens are shown by noVNC where the system has it (Debian's package `novnc`); any other client
that speaks VNC over WebSocket works without.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.compute.consoles import SUPPORTED, ConsoleGrant, read_token
from api.services import Services
from domain.errors import Rejected

NOVNC = Path("/usr/share/novnc")
CHUNK = 65536
MOST_OPEN = 256
ASK_SECONDS = 10.0
CONNECT_SECONDS = 5.0
# Close codes 4000-4999 are an application's own: the HTTP status that it would have been.
REFUSED, FULL, NO_CONSOLE = 4401, 4429, 4409

_log = structlog.get_logger("chronova.console")


class Consoles:
    """The open consoles of one API process, and the tokens that were used up."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._used: dict[str, float] = {}
        self._open = 0

    async def connect(self, socket: WebSocket) -> None:
        """Open the console that the query's token stands for."""
        token = socket.query_params.get("token", "")
        grant = await asyncio.to_thread(read_token, self._services.settings.data_dir, token)
        if grant is None or not self._use_up(token, grant):
            await socket.close(
                REFUSED, "The console token is not valid, has expired or was used: ask for a new console"
            )
            return
        if self._open >= MOST_OPEN:
            await socket.close(FULL, "Too many consoles are open: close one")
            return
        self._open += 1
        try:
            await self._serve(socket, grant)
        finally:
            self._open -= 1

    def _use_up(self, token: str, grant: ConsoleGrant) -> bool:
        now = time.time()
        self._used = {one: until for one, until in self._used.items() if until > now}
        if token in self._used:
            return False
        self._used[token] = grant.expires_at
        return True

    async def _serve(self, socket: WebSocket, grant: ConsoleGrant) -> None:
        try:
            reader, writer = await self._guest(grant)
        except (Rejected, OSError, TimeoutError) as error:
            await socket.close(NO_CONSOLE, str(error)[:120])  # a reason has at most 123 bytes
            return
        wanted = socket.scope.get("subprotocols") or []
        await socket.accept(subprotocol="binary" if "binary" in wanted else None)
        _log.info("console_opened", server_id=grant.server_id, kind=grant.kind, user_id=grant.user_id)
        directions = {asyncio.create_task(_to_guest(socket, writer)), asyncio.create_task(_to_caller(socket, reader))}
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in directions:
                one.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            writer.close()
            with suppress(RuntimeError):  # the caller has closed it already
                await socket.close()
            _log.info("console_closed", server_id=grant.server_id, kind=grant.kind, user_id=grant.user_id)

    async def _guest(self, grant: ConsoleGrant) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        kind = SUPPORTED.get(grant.kind, grant.kind)
        told = await self._services.commands.ask_agent(
            grant.server_id, "console_address", {"kind": kind}, timeout=ASK_SECONDS
        )
        protocol, *where = list(told)
        async with asyncio.timeout(CONNECT_SECONDS):
            if protocol == "unix":
                return await asyncio.open_unix_connection(where[0])
            return await asyncio.open_connection(where[0], int(where[1]))


async def _to_guest(socket: WebSocket, writer: asyncio.StreamWriter) -> None:
    with suppress(WebSocketDisconnect, ConnectionError):
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            writer.write(message.get("bytes") or (message.get("text") or "").encode())
            await writer.drain()


async def _to_caller(socket: WebSocket, reader: asyncio.StreamReader) -> None:
    with suppress(WebSocketDisconnect, ConnectionError):
        while data := await reader.read(CHUNK):
            await socket.send_bytes(data)


async def no_viewer(request: Request) -> Response:
    """How to see a screen where noVNC is not installed"""
    return PlainTextResponse(
        "noVNC is not installed on this machine: install the package novnc and restart, or open the WebSocket "
        "/console/vnc?token=... with another client that speaks VNC.\n",
        status_code=404,
    )


def routes(consoles: Consoles) -> list[BaseRoute]:
    """Mounted at /console."""
    viewer: BaseRoute = Route("/{rest:path}", no_viewer)
    if NOVNC.is_dir():
        viewer = Mount("/", StaticFiles(directory=NOVNC, html=False, follow_symlink=True))
    return [WebSocketRoute("/serial", consoles.connect), WebSocketRoute("/vnc", consoles.connect), viewer]
