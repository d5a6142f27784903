"""The routes of this API: paths exist with and without the project's id; every answer names the microversion used."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import BaseRoute, Route

from api.microversions import Handler, Microversions

VERSIONS = Microversions("volume", lowest=(3, 0), highest=(3, 66))


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

    versioned = VERSIONS.named(handler)
    return [
        Route(f"/v3{path}", versioned, methods=list(methods)),
        Route("/v3/{project_id:project}" + path, versioned, methods=list(methods)),
    ]
