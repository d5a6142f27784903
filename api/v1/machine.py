"""The formal machine, published from the very rules that decide."""

from __future__ import annotations

from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from domain.errors import Invalid
from domain.machine import render

FORMATS = {
    "json": (render.json, "application/json"),
    "mermaid": (render.mermaid, "text/plain; charset=utf-8"),
    "svg": (render.svg, "image/svg+xml"),
    "matrix": (render.matrix, "text/markdown; charset=utf-8"),
}


@cache
def _document(name: str) -> bytes:
    return FORMATS[name][0]().encode()


async def machine(request: Request) -> Response:
    """The states, the commands, and every cell of the matrix

    `format` is json, mermaid, svg or matrix.
    """
    name = request.query_params.get("format", "json")
    if name not in FORMATS:
        raise Invalid(f"format {name!r} is not one of {', '.join(FORMATS)}")
    return Response(_document(name), media_type=FORMATS[name][1], headers={"Cache-Control": "private, max-age=300"})
