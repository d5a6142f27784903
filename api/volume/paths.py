"""The routes of this API: paths exist with and without the project's id; every answer names the microversion used."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from domain.errors import Rejected

Handler = Callable[[Request], Awaitable[Response]]

MIN_VERSION, MAX_VERSION = (3, 0), (3, 66)
_HEADER = re.compile(r"volume\s+(\d{1,3})\.(\d{1,3}|latest)|volume\s+(latest)")


class _ProjectId(Convertor[str]):
    """A project id, with or without dashes: never the name of a collection."""

    regex = "[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("project", _ProjectId())


def both(path: str, handler: Handler, methods: Sequence[str] = ("GET",)) -> list[BaseRoute]:
    """The route of a path, without and with the project id before it."""

    async def versioned(request: Request) -> Response:
        used = version_of(request)
        response = await handler(request)
        response.headers["OpenStack-API-Version"] = f"volume {used[0]}.{used[1]}"
        response.headers["Vary"] = "OpenStack-API-Version"
        return response

    versioned.__doc__ = handler.__doc__
    return [
        Route(f"/v3{path}", versioned, methods=list(methods)),
        Route("/v3/{project_id:project}" + path, versioned, methods=list(methods)),
    ]


def version_of(request: Request) -> tuple[int, int]:
    """The microversion asked for. Raises 406 for one that is not offered."""
    for part in request.headers.get("openstack-api-version", "").split(","):
        found = _HEADER.fullmatch(part.strip())
        if found is None:
            continue
        if found[3]:
            return MAX_VERSION
        asked = (int(found[1]), int(found[2]))
        if not MIN_VERSION <= asked <= MAX_VERSION:
            raise Rejected(
                f"Version {asked[0]}.{asked[1]} is not supported by the API. Minimum is 3.0 and maximum is 3.66.",
                code=406,
                reason="version_not_supported",
            )
        return asked
    return MIN_VERSION
