"""Volume paths exist with and without the project's id, as clients of different age use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

Handler = Callable[[Request], Awaitable[Response]]


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
    return [
        Route(f"/v3{path}", handler, methods=list(methods)),
        Route("/v3/{project_id:project}" + path, handler, methods=list(methods)),
    ]
