"""Microversions of placement: every answer names the one that was used. Raises 406 for one that is not offered."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from domain.errors import Rejected

Handler = Callable[[Request], Awaitable[Response]]

MIN_VERSION, MAX_VERSION = "1.0", "1.39"
_MINORS = range(40)
_HEADER = re.compile(r"placement\s+(?:1\.(\d{1,3})|latest)")


def versioned(handler: Handler) -> Handler:
    """A handler whose answer names the microversion."""

    @wraps(handler)
    async def wrapped(request: Request) -> Response:
        used = minor_of(request)
        response = await handler(request)
        response.headers["OpenStack-API-Version"] = f"placement 1.{used}"
        response.headers["Vary"] = "OpenStack-API-Version"
        return response

    return wrapped


def minor_of(request: Request) -> int:
    """The N of 1.N that was asked for; without a word about it the oldest."""
    for part in request.headers.get("openstack-api-version", "").split(","):
        if not part.strip().startswith("placement"):
            continue
        found = _HEADER.fullmatch(part.strip())
        minor = -1 if found is None else int(found[1]) if found[1] else _MINORS[-1]
        if minor not in _MINORS:
            raise Rejected(
                f"Unacceptable version header: {part.strip()}",
                code=406,
                reason="version_not_supported",
                hint=f"This API offers {MIN_VERSION} to {MAX_VERSION}.",
            )
        return minor
    return _MINORS[0]
