"""The pages that show a console: noVNC for the screen, xterm.js for the serial port.

A page is opened with the same token as its WebSocket and spends nothing by itself. One whose token is not good says so,
and leads back to the server for a new one.
"""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from api.console.grants import ConsoleGrant, unseal
from api.http import services
from api.ui.page import HEADERS, render

# xterm.js makes its style sheets itself and noVNC its pointers from pixels: the page allows just that.
POLICY = "default-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; " + (
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
INVALID = "This is no address of a console."
EXPIRED = "This console's address has expired: it was good for ten minutes."


async def screen(request: Request) -> Response:
    """Show a server's screen"""
    return await _page(request, "vnc")


async def serial(request: Request) -> Response:
    """Show a server's serial console"""
    return await _page(request, "serial")


async def _page(request: Request, protocol: str) -> Response:
    token = token_of(request)
    note = await asyncio.to_thread(unseal, services(request).settings.data_dir, token)
    problem = ""
    if note is None or note.protocol != protocol:
        note, problem = None, INVALID
    elif note.expired:
        problem = EXPIRED
    nonce = secrets.token_urlsafe(16)
    return render(
        request,
        "console.html",
        code=401 if problem else 200,
        headers=HEADERS | {"Content-Security-Policy": POLICY.format(nonce=nonce)},
        protocol=protocol,
        problem=problem,
        nonce=nonce,
        server_id=note.server_id if note else "",
        server_name=await _name(request, note),
        token=token,
    )


def token_of(request: Request) -> str:
    """The token in `?token=`, or in the `?path=?token=` that noVNC's own pages take."""
    query = request.query_params
    inner = parse_qs(query.get("path", "").partition("?")[2])
    return query.get("token") or inner.get("token", [""])[0]


async def _name(request: Request, note: ConsoleGrant | None) -> str:
    server = await services(request).read.server(note.server_id) if note else None
    return (server.name or server.id) if server else ""
