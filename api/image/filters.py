"""The filters of an image list: any field or property by value, sizes by range, times by comparison."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request

from api.http import boolean, caller, moment
from api.image.view import image_view
from api.shapes import whole
from domain.errors import Invalid
from domain.resources import Image

_PAGING = frozenset({"limit", "marker", "sort", "sort_key", "sort_dir", "member_status", "tag"})
_COMPARE = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "neq": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def fits(image: Image, request: Request) -> bool:
    """Whether an image passes all filters of the query."""
    params = request.query_params
    if not all(tag in image.tags for tag in params.getlist("tag")):
        return False
    if not _shown_by_default(image, request):
        return False
    view = image_view(image)
    for key, wanted in params.items():
        if key in _PAGING or (key == "visibility" and wanted == "all"):
            continue
        if key in ("size_min", "size_max"):
            if not _in_size(image.size or 0, key, wanted):
                return False
        elif key in ("created_at", "updated_at"):
            if not _in_time(getattr(image, key), wanted):
                return False
        elif key in ("protected", "os_hidden"):
            if view[key] != boolean(wanted):
                return False
        elif not _equals(view.get(key), wanted):
            return False
    return True


def _shown_by_default(image: Image, request: Request) -> bool:
    """Hidden images, others' community images, and images shared but not accepted are listed only when asked for."""
    params, who = request.query_params, caller(request)
    if image.os_hidden and "os_hidden" not in params:
        return False
    if image.project_id == who.project_id:
        return True
    asked = params.get("visibility")
    if image.visibility == "community":
        return asked in ("community", "all") or "id" in params or params.get("owner") == image.project_id
    if image.visibility == "shared" and not who.is_admin:
        answer = params.get("member_status", "accepted")
        return answer == "all" or image.members.get(who.project_id or "") == answer
    return True


def _equals(value: object, wanted: str) -> bool:
    if wanted.startswith("in:"):
        return str(value) in [one.strip().strip('"') for one in wanted[3:].split(",")]
    return value is not None and str(value) == wanted


def _in_size(size: int, key: str, wanted: str) -> bool:
    limit = whole(wanted)
    if limit is None:
        raise Invalid(f"{key} has to be a number of bytes, not {wanted!r}")
    return size >= limit if key == "size_min" else size <= limit


def _in_time(value: datetime | None, wanted: str) -> bool:
    operator, separator, given = wanted.partition(":")
    if operator not in _COMPARE or not separator:
        operator, given = "eq", wanted
    try:
        limit = moment(given)
    except ValueError as error:
        raise Invalid(f"{wanted!r} is not a comparison such as gt:2026-01-02T03:04:05Z") from error
    return value is not None and bool(_COMPARE[operator](value.replace(microsecond=0), limit))
