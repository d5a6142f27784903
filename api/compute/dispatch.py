"""From a request to its handler and back: the outermost part of the compute API.

Responsible for: the path tree (with and without a project id after /v2.1), microversion negotiation, turning refusals
into fault bodies, and the headers that name the version (those of the request id come from `api.middleware`). A request
that no handler serves at its microversion is 404, as in Nova. Finding a handler is a walk over a few dictionaries, so
that its cost does not grow with the number of routes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from starlette.types import Receive, Scope, Send

from api.compute import faults, versions
from api.compute.call import Call, Reply, base_of, reply
from api.errors import as_rejected, note
from domain.errors import Invalid, Rejected

if TYPE_CHECKING:
    from api.services import Services

Handler = Callable[[Call], Awaitable[Reply]]

_log = structlog.get_logger("chronova.api.compute")
_PROJECT = re.compile("[0-9a-f-]+")  # what Nova takes for the id of a project: another word is an unknown resource


@dataclass(frozen=True)
class Route:
    """A handler and when it serves. `{}` in the path matches one segment, given to the handler in `call.params`."""

    method: str
    path: str
    handler: Handler
    since: int = versions.MIN_VERSION
    until: int = versions.MAX_VERSION


@dataclass
class _Node:
    fixed: dict[str, _Node] = field(default_factory=dict)
    any: _Node | None = None
    routes: dict[str, list[Route]] = field(default_factory=dict)


class ComputeApi:
    """The ASGI application below /compute."""

    def __init__(self, services: Services, routes: Iterable[Route]) -> None:
        self._services = services
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for part in route.path.strip("/").split("/"):
            if part == "{}":
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.fixed.setdefault(part, _Node())
        node.routes.setdefault(route.method, []).append(route)

    def find(self, method: str, parts: list[str], version: int) -> tuple[Handler, tuple[str, ...]]:
        """The handler for a path below /v2.1, and its parameters. Raises `NotFound`."""
        node = self._root
        params: list[str] = []
        for part in parts:
            following = node.fixed.get(part)
            if following is None:
                following = node.any
                params.append(part)
            if following is None:
                raise faults.no_such_path()
            node = following
        routes = node.routes.get(method)
        if not routes:
            raise faults.no_such_path()
        for route in routes:
            if route.since <= version <= route.until:
                return route.handler, tuple(params)
        raise faults.not_at_this_version()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        state = scope.get("state") or {}
        request_id = state.get("request_id", "")
        version: int | None = None
        try:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            root, parts = _split(path)
            if root == "":
                answer = reply(versions.all_versions(base_of(scope)))
            elif root != "v2.1":
                raise faults.no_such_path()
            else:
                version = versions.negotiate(scope["headers"])
                if not parts:
                    answer = reply(versions.one_version(base_of(scope)))
                else:
                    answer = await self._serve(scope, receive, request_id, version, parts)
        except Rejected as error:
            note(scope, error)
            answer = faults.rejected(error)
        except Exception as error:  # the boundary of a request: whatever went wrong becomes an answer, and a log entry
            refusal = as_rejected(error)
            if refusal is not None:
                note(scope, refusal)
            else:
                _log.exception("request failed", request_id=request_id, path=scope["path"])
            answer = faults.unexpected(error, request_id) if refusal is None else faults.rejected(refusal)
        headers = [] if version is None else versions.echo(version)
        if scope["method"] in ("GET", "HEAD"):  # what was read is as old as the read model
            headers = [*headers, (b"x-log-position", b"%d" % self._services.read.position)]
        await _send(send, answer, headers)

    async def _serve(self, scope: Scope, receive: Receive, request_id: str, version: int, parts: list[str]) -> Reply:
        caller = scope["state"]["caller"]
        project_path = ""
        if (parts[0] not in self._root.fixed and len(parts) > 1) or parts[0] == caller.actor.project_id:
            if not _PROJECT.fullmatch(parts[0]) and parts[0] != caller.actor.project_id:
                raise faults.no_such_path()
            if parts[0] != caller.actor.project_id:
                raise Invalid(
                    f"Malformed request URL: URL's project_id '{parts[0]}' doesn't match "
                    f"Context's project_id '{caller.actor.project_id}'"
                )
            project_path = f"/{parts[0]}"
            parts = parts[1:]
            if not parts:
                raise faults.no_such_path()
        handler, params = self.find(scope["method"], parts, version)
        call = Call(scope, receive, self._services, caller, request_id, version, params, project_path)
        try:
            return await handler(call)
        except Exception:
            scope["state"]["asked"] = call.given  # for the record, should it be refused
            raise


def _split(path: str) -> tuple[str, list[str]]:
    """The version segment and the segments after it. A trailing slash does not count."""
    parts = path.strip("/").split("/")
    return parts[0], parts[1:]


async def _send(send: Send, answer: Reply, more: list[tuple[bytes, bytes]]) -> None:
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode()), *more]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
