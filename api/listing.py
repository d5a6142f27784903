"""Filters, order and pages of the lists of the small APIs.

`limit` and `marker` are always honoured: a list that ignores `marker` makes a client loop for ever. A marker that names
nothing in the list is a 400. The page size never passes `settings.page_limit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from api.http import services
from api.links import base_url
from api.services import Services
from api.shapes import whole
from domain.errors import Invalid
from domain.resources import Resource

PAGE = 1000


def limit_of(request: Request) -> int:
    """The page size asked for, bounded by the settings. Raises 400 for what is no size."""
    most = services(request).settings.page_limit
    text = request.query_params.get("limit")
    if not text:
        return most
    if (limit := whole(text)) is None:
        raise Invalid(f"limit has to be a whole number, not {text!r}")
    return min(limit, most) if limit else most


def sorts_of(request: Request, default: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Sort keys and directions, in each of the spellings in use: `sort=name:asc,id` or `sort_key=` and `sort_dir=`."""
    params = request.query_params
    if params.get("sort"):
        pairs = [part.partition(":")[::2] for part in params["sort"].split(",")]
        return [(key.strip(), direction.strip() or default[0][1]) for key, direction in pairs if key.strip()]
    keys = [key for key in params.getlist("sort_key") if key]
    dirs = params.getlist("sort_dir")
    if not keys and not dirs:
        return list(default)
    keys = keys or [default[0][0]]
    return [(key, dirs[min(i, len(dirs) - 1)] if dirs else default[0][1]) for i, key in enumerate(keys)]


def page(
    request: Request,
    items: list[dict[str, Any]],
    *,
    default_sort: Sequence[tuple[str, str]] = (("created_at", "desc"), ("id", "desc")),
) -> tuple[list[dict[str, Any]], str | None]:
    """One page of the items (as the caller sees them), sorted as asked, and the marker of the next page, if any."""
    sorts = sorts_of(request, default_sort)
    for key, direction in sorts:
        if direction not in ("asc", "desc"):
            raise Invalid(f"sort direction has to be asc or desc, not {direction!r}")
        if items and key not in items[0]:
            raise Invalid(f"Lists cannot be sorted by {key!r}")
    if not any(key == "id" for key, _ in sorts):
        sorts = [*sorts, ("id", "asc")]
    for key, direction in reversed(sorts):
        items.sort(key=_by(key), reverse=direction == "desc")
    marker = request.query_params.get("marker")
    if marker:
        at = next((i for i, item in enumerate(items) if item.get("id") == marker), None)
        if at is None:
            raise Invalid(f"The marker {marker!r} is not in this list", hint="Start again without marker")
        items = items[at + 1 :]
    limit = limit_of(request)
    more = len(items) > limit
    items = items[:limit]
    return items, items[-1]["id"] if more else None


def next_link(request: Request, marker: str | None) -> str | None:
    """The address of the next page, as the caller reached this one."""
    if marker is None:
        return None
    params = [(key, value) for key, value in request.query_params.multi_items() if key != "marker"]
    return f"{base_url(request)}{request.url.path}?{urlencode([*params, ('marker', marker)])}"


def _by(key: str) -> Callable[[dict[str, Any]], tuple[int, Any]]:
    return lambda item: _sortable(item.get(key))


def _sortable(value: Any) -> tuple[int, Any]:
    """Values of one field in an order: missing ones first, then numbers and flags, then text."""
    if value is None:
        return (0, 0)
    return (1, value) if isinstance(value, int | float) else (2, str(value))


async def living(request: Request, kind: str, **filters: Any) -> list[Resource]:
    return await all_living(services(request), kind, **filters)


async def all_living(known: Services, kind: str, **filters: Any) -> list[Resource]:
    """Every resource of a kind that is not deleted and fits, oldest first: read in pages, however many there are."""
    read = known.read
    found: list[Resource] = []
    while True:
        last = found[-1].id if found else None
        some = await read.resources(kind, limit=PAGE, marker=last, **filters)
        found += some
        if len(some) < PAGE:
            return found
