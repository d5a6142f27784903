"""Microversions of the small APIs: asked for by `OpenStack-API-Version: SERVICE VERSION`, named in what answers.

Refusals name it, too (`api.errors` renders them): all but the 406, for which none was used. That one, as every answer,
says by `Vary` that another request header would have been answered differently.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from api.errors import answered_with
from domain.errors import Rejected

Handler = Callable[[Request], Awaitable[Response]]
Version = tuple[int, int]

_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")


@dataclass(frozen=True)
class Microversions:
    """What one service offers."""

    service: str
    lowest: Version
    highest: Version

    def of(self, request: Request) -> Version:
        """The one asked for; without a word about it the lowest. Raises 406 for one that is not offered."""
        for part in request.headers.get("openstack-api-version", "").split(","):
            service, _, asked = part.strip().partition(" ")
            if service == self.service:
                return self._offered(asked.strip())
        return self.lowest

    def named(self, handler: Handler) -> Handler:
        """A handler whose answer names the microversion that was used."""

        @wraps(handler)
        async def wrapped(request: Request) -> Response:
            headers = answered_with(request.scope)
            headers["Vary"] = "OpenStack-API-Version"
            headers["OpenStack-API-Version"] = f"{self.service} {text_of(self.of(request))}"
            response = await handler(request)
            response.headers.update(headers)
            return response

        return wrapped

    def _offered(self, asked: str) -> Version:
        if asked == "latest":
            return self.highest
        found = _VERSION.fullmatch(asked)
        version = None if found is None else (int(found[1]), int(found[2]))
        if version is None or not self.lowest <= version <= self.highest:
            raise Rejected(
                f"Version {asked} is not supported by the API. "
                f"Minimum is {text_of(self.lowest)} and maximum is {text_of(self.highest)}.",
                code=406,
                reason="version_not_supported",
                hint="Ask for one between them, or for latest.",
            )
        return version


def text_of(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
