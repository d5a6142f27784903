"""Neutron's list dialect: a filter per attribute (repeated: any of them), `fields`, sorting, `limit` and `marker`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, boolean
from api.links import base_url
from api.listing import page

_NO_FILTERS = frozenset(
    {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir", "tags", "tags-any", "not-tags"}
    | {"not-tags-any", "fixed_ips", "retry_on_not_found"}
)


def listed(request: Request, collection: str, views: list[dict[str, Any]]) -> Response:
    """The answer to a list request: the views that fit, as a page."""
    found = [view for view in views if _fits(view, request)]
    reverse = request.query_params.get("page_reverse", "").lower() == "true"
    if reverse:
        found.reverse()
    found, marker = page(request, found, default_sort=(("id", "asc"),))
    body: dict[str, Any] = {collection: [chosen(request, view) for view in found]}
    if marker is not None:
        pairs = [(key, value) for key, value in request.query_params.multi_items() if key != "marker"]
        href = f"{base_url(request)}{request.url.path}?{urlencode([*pairs, ('marker', marker)])}"
        body[f"{collection}_links"] = [{"rel": "next", "href": href}]
    return Json(body)


def chosen(request: Request, view: dict[str, Any]) -> dict[str, Any]:
    """The view, reduced to the fields asked for."""
    fields = [one for given in request.query_params.getlist("fields") for one in given.split(",")]
    return {key: view[key] for key in fields if key in view} if any(fields) else view


def _fits(view: dict[str, Any], request: Request) -> bool:
    params = request.query_params
    for key in set(params.keys()) - _NO_FILTERS:
        wanted = params.getlist(key)
        if key in view and not _any_of(view[key], wanted):
            return False
    fixed_ips = params.getlist("fixed_ips")
    return _has_tags(view.get("tags", []), params) and (not fixed_ips or _has_addresses(view, fixed_ips))


def _any_of(value: Any, wanted: list[str]) -> bool:
    if isinstance(value, bool):
        return any(value == boolean(one) for one in wanted)
    if isinstance(value, list):
        return any(one in value for one in wanted)
    return ("" if value is None else str(value)) in wanted


def _has_tags(tags: list[str], params: Any) -> bool:
    have = set(tags)

    def asked(key: str) -> set[str]:
        return {one for one in params.get(key, "").split(",") if one}

    if not asked("tags") <= have:
        return False
    if asked("tags-any") and not asked("tags-any") & have:
        return False
    if asked("not-tags") and asked("not-tags") <= have:
        return False
    return not asked("not-tags-any") & have


def _has_addresses(view: dict[str, Any], wanted: list[str]) -> bool:
    """`fixed_ips=ip_address=10.0.0.3` or `subnet_id=...` (and the substring form that clients use)."""
    for one in wanted:
        key, _, value = one.partition("=")
        if key == "ip_address_substr":
            if not any(value in ip["ip_address"] for ip in view.get("fixed_ips", ())):
                return False
        elif not any(ip.get(key) == value for ip in view.get("fixed_ips", ())):
            return False
    return True
