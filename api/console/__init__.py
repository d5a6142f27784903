"""Consoles of guests, mounted at /console: the pages, the WebSocket behind them, and what they are made of.

The WebSocket and the page of a console have the same path, so an address is good for both: `/console/serial` and
`/console/vnc` (also `/console/vnc_auto.html`, as Nova's addresses end).
"""

from __future__ import annotations

from pathlib import Path

from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from api.console.pages import screen, serial
from api.console.relay import Consoles

HERE = Path(__file__).parent


def routes(consoles: Consoles) -> list[BaseRoute]:
    """Mounted at /console."""
    return [
        Route("/vnc_auto.html", screen),
        Route("/vnc", screen),
        Route("/serial", serial),
        WebSocketRoute("/serial", consoles.connect),
        WebSocketRoute("/vnc", consoles.connect),
        Mount("/static", StaticFiles(directory=HERE / "static")),
        Mount("/vendor", StaticFiles(directory=HERE / "vendor")),
    ]
