"""Links that carry the host and port that the caller used.

A link with another host shows up as a confusing 404 much later, so no address is configured: it is taken from the
request. Behind a proxy (`settings.trust_forwarded`) X-Forwarded-Proto, -Host and -Prefix say what the caller used.
"""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection

_HOST = re.compile(r"[A-Za-z0-9._~\-]+(:\d{1,5})?|\[[0-9a-fA-F:.]+\](:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~\-]+)+")


def base_url(request: HTTPConnection) -> str:
    """`http://host:port`, without a slash at the end; the mounts (`/compute`, ...) follow."""
    scope, headers = request.scope, request.headers
    scheme = scope.get("scheme", "http")
    host = headers.get("host", "")
    prefix = ""
    if request.app.state.services.settings.trust_forwarded:
        scheme = _first(headers.get("x-forwarded-proto")) or scheme
        host = _first(headers.get("x-forwarded-host")) or host
        prefix = _first(headers.get("x-forwarded-prefix")).rstrip("/")
        scheme = scheme if scheme in ("http", "https") else "http"
        prefix = prefix if _PREFIX.fullmatch(prefix) else ""
    if not _HOST.fullmatch(host):
        server = scope.get("server") or ("localhost", None)
        name = f"[{server[0]}]" if ":" in server[0] else server[0]
        host = name if server[1] is None else f"{name}:{server[1]}"
    return f"{scheme}://{host}{prefix}"


def _first(value: str | None) -> str:
    return (value or "").partition(",")[0].strip()
