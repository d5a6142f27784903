"""One application for every API and the viewer, on one port.

Each API exports `routes(services)` and is mounted under its name, the busiest first. Paths reach the routers in one
spelling: no slash at the end, and a mount's own document as `/` (see `api.middleware.canonical`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api import compute, console, errors, identity, image, network, operations, placement, ui, v1, volume
from api.console.relay import Consoles
from api.middleware import Authentication, BodyLimit, RequestContext
from api.repeats import Repeats
from api.services import Services
from api.volume.work import Work


async def front_page(request: Request) -> Response:
    """To the viewer"""
    return RedirectResponse("/ui/")


def build_app(services: Services) -> ASGIApp:
    """The ASGI application. `services` has to be open for as long as it runs."""
    apis = (v1, image, network, identity, volume, placement, ui)
    mounts = [Mount(f"/{api.__name__.rpartition('.')[2]}", routes=api.routes(services)) for api in apis]
    consoles = Consoles(services)
    mounts.append(Mount("/console", routes=console.routes(consoles)))
    # noVNC opens its WebSocket at the path it is told, which the compute API gives as `/?token=`.
    front = [Route("/", front_page), WebSocketRoute("/", consoles.connect)]
    app = Starlette(
        routes=[*mounts, *operations.routes(), *front],
        middleware=[
            Middleware(RequestContext, services=services),
            Middleware(BodyLimit, services=services),
            Middleware(Authentication, services=services),
            Middleware(Repeats, services=services),
            Middleware(StraightTo, prefix="/compute", api=compute.application(services)),
        ],
        exception_handlers=dict.fromkeys(errors.HANDLED, errors.handle),
        lifespan=_lifespan,
    )
    app.state.services = services
    app.state.volume_work = Work(services)
    app.router.redirect_slashes = False
    return app


class StraightTo:
    """Hands requests for one API to it without the router: for the busiest one the router would cost more than a read.

    The API has to answer every request itself, its errors included.
    """

    def __init__(self, app: ASGIApp, prefix: str, api: ASGIApp) -> None:
        self._app = app
        self._prefix = prefix
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            scope["root_path"] = scope.get("root_path", "") + self._prefix
            await self._api(scope, receive, send)
        else:
            await self._app(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    await image.clean_up(app.state.services)
    await app.state.volume_work.resume()
    yield
    await app.state.volume_work.stop()
