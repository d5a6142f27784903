"""The compute API's part of /openapi.json: its routes stand in a tree of their own (`dispatch`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from api.compute.dispatch import Route
from api.compute.versions import MAX_VERSION

_VERBS = {
    "index": "List",
    "detail": "List in detail:",
    "detailed": "List in detail:",
    "show": "Show",
    "create": "Create",
    "add": "Add to",
    "update": "Change",
    "replace_all": "Replace",
    "remove": "Remove from",
    "remove_all": "Remove all",
    "delete": "Delete",
    "act": "Act on",
    "gone": "Gone (410):",
    "refer": "Moved to another API:",
}


def describe(routes: Iterable[Route]) -> dict[str, dict[str, Any]]:
    """OpenAPI path items. Of several handlers of one method and path, the one of the newest microversions is told."""
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(routes, key=lambda one: one.until):
        path, names = _named(route.path)
        paths.setdefault(path, {})[route.method.lower()] = {
            "summary": _summary(route),
            "tags": ["compute"],
            "deprecated": route.until < MAX_VERSION or _name(route) == "gone",
            "x-openstack-microversions": {"min": f"2.{route.since}", "max": f"2.{route.until}"},
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ],
            "responses": {"default": {"description": "See OpenStack's Compute API reference"}},
        }
    return paths


def _named(path: str) -> tuple[str, list[str]]:
    """A route's path below /compute with names for its parameters: `servers/{}` is `servers/{server_id}`."""
    named, names = "/compute/v2.1", []
    for part in path.strip("/").split("/"):
        if part != "{}":
            named += f"/{part}"
            continue
        resource = named.rpartition("/")[2].removeprefix("os-").replace("-", "_")
        names.append(f"{resource.removesuffix('s')}_id")
        named += f"/{{{names[-1]}}}"
    return named, names


def _summary(route: Route) -> str:
    documented = inspect.getdoc(route.handler)
    if documented:
        return documented.splitlines()[0]
    resources = [part for part in route.path.strip("/").split("/") if part not in ("{}", "action", "detail")]
    return f"{_VERBS.get(_name(route), 'Show')} {' of '.join(reversed(resources))}"


def _name(route: Route) -> str:
    return str(getattr(route.handler, "__name__", ""))
