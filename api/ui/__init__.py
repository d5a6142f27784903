"""The instance action history viewer: server-rendered pages that grow while one looks at them.

Pages work without JavaScript; a small native module adds live growth, keys and a running clock. They ask the same
services as /v1 and give the same commands, so they can do nothing that /v1 does not allow.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from api.ui import act, fleet, hosts, machine, moment, server, session

if TYPE_CHECKING:
    from api.services import Services

STATIC = Path(__file__).parent / "static"


def routes(services: Services) -> list[BaseRoute]:
    """Mounted at /ui."""
    return [
        Route("/", fleet.fleet),
        Route("/login", session.login, methods=["GET", "POST"]),
        Route("/logout", session.logout, methods=["POST"]),
        Route("/hosts", hosts.hosts),
        Route("/machine", machine.machine),
        Route("/servers/{id}", server.server),
        Route("/servers/{id}/commands", act.give, methods=["POST"]),
        Route("/servers/{id}/at/{position:int}", moment.moment),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/{rest:path}", fleet.nowhere),
    ]
