"""The instance action history viewer: server-rendered pages that grow while one looks at them.

Pages work without JavaScript; a small native module adds live growth, keys and a running clock. They ask the same
services as /v1 and give the same commands, so they can do nothing that /v1 does not allow.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from api.ui.act import give
from api.ui.console import console
from api.ui.fleet import fleet, nowhere
from api.ui.hosts import hosts
from api.ui.machine import machine
from api.ui.moment import moment
from api.ui.server import server
from api.ui.session import login, logout

if TYPE_CHECKING:
    from api.services import Services

STATIC = Path(__file__).parent / "static"


def routes(services: Services) -> list[BaseRoute]:
    """Mounted at /ui."""
    return [
        Route("/", fleet),
        Route("/login", login, methods=["GET", "POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/hosts", hosts),
        Route("/machine", machine),
        Route("/servers/{id}", server),
        Route("/servers/{id}/commands", give, methods=["POST"]),
        Route("/servers/{id}/console", console, methods=["POST"]),
        Route("/servers/{id}/at/{position:int}", moment),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/{rest:path}", nowhere),
    ]
