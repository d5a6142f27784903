"""For operators and their tools: liveness, readiness, metrics, and a description of every route.

`/healthz` says that the process answers. `/readyz` says that it can do its work: the log is connected and the read
model is at most `settings.readiness_lag` commits behind it; otherwise 503 with the reason.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from api import compute, metrics
from api.http import Json, services
from eventlog.errors import LogUnavailable

READY_SECONDS = 2.0


async def healthz(request: Request) -> Response:
    """The process is alive"""
    return Json({"status": "ok"})


async def readyz(request: Request) -> Response:
    """The log is connected and the read model is up to date"""
    known = services(request)
    try:
        async with asyncio.timeout(READY_SECONDS):
            newest = await known.log.last_position()
    except (LogUnavailable, TimeoutError):
        return Json({"status": "not ready", "reason": "the log cannot be reached"}, status_code=503)
    lag = max(0, newest - known.read.position)
    body = {"status": "ready", "log_position": newest, "read_model_position": known.read.position, "lag": lag}
    if lag > known.settings.readiness_lag:
        return Json(body | {"status": "not ready", "reason": "the read model is behind the log"}, status_code=503)
    return Json(body)


async def metrics_page(request: Request) -> Response:
    """Counters and gauges in Prometheus' text form"""
    known = services(request)
    metrics.READ_POSITION.set(known.read.position)
    metrics.LOG_CONNECTED.set(1 if known.log.nc.is_connected else 0)
    try:
        async with asyncio.timeout(READY_SECONDS):
            metrics.LOG_POSITION.set(await known.log.last_position())
    except (LogUnavailable, TimeoutError):
        metrics.LOG_CONNECTED.set(0)
    return Response(generate_latest(metrics.REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST})


async def openapi(request: Request) -> Response:
    """This description"""
    return Json(describe(request.app.routes))


def describe(routes: list[BaseRoute]) -> dict[str, Any]:
    """An OpenAPI 3.1 document of every route, from the routing tables and the handlers' docstrings."""
    paths: dict[str, Any] = compute.described()
    for path, route in _walk("", routes):
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            summary = (inspect.getdoc(route.endpoint) or route.name).splitlines()[0]
            names = list(route.param_convertors)
            paths.setdefault(_plain(path), {})[method.lower()] = {
                "summary": summary,
                "tags": [path.split("/")[1]],
                "parameters": [
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
                ],
                "responses": {"default": {"description": "See the API's own documentation"}},
            }
    return {
        "openapi": "3.1.0",
        "info": {"title": "chronova", "version": "0.1.0"},
        "components": {"securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}}},
        "security": [{"token": []}],
        "paths": dict(sorted(paths.items())),
    }


def _walk(prefix: str, routes: list[BaseRoute]) -> list[tuple[str, Route]]:
    found: list[tuple[str, Route]] = []
    for route in routes:
        if isinstance(route, Mount):
            found += _walk(prefix + route.path, list(route.routes or ()))
        elif isinstance(route, Route):
            found.append((prefix + route.path, route))
    return found


def _plain(path: str) -> str:
    for convertor in (":path", ":int", ":uuid", ":str"):
        path = path.replace(convertor + "}", "}")
    return path


def routes() -> list[BaseRoute]:
    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics_page),
        Route("/openapi.json", openapi),
    ]
