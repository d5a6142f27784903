"""GET /v1/servers/{id}/history: actions, newest first; in each its steps, then its events with their causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.http import Json, caller, services
from api.v1.scope import redacted, rejections_of, visible_server, whole_number
from api.v1.story import Chapter, Entry, Story, story
from domain.errors import Invalid
from projections.query import MarkerNotFound
from projections.rows import ActionRow, RejectionRow

if TYPE_CHECKING:
    from api.auth import Caller

MAX_ACTIONS = 200
REJECTIONS = 50


async def history(request: Request) -> Response:
    """Show the history of a server

    `limit` and `marker` (a request id) page through the actions. The newest refused commands are listed beside them.
    """
    at, who = services(request), caller(request)
    server = await visible_server(request)
    limit = whole_number(request, "limit", 50, least=1, most=MAX_ACTIONS)
    marker = request.query_params.get("marker")
    position = at.read.position  # before anything is read: whoever follows from there misses nothing
    try:
        told = await story(at, who, server.id, limit=limit, marker=marker)
    except MarkerNotFound as error:
        raise Invalid(f"marker {marker!r} is no request of this server", hint="Use next_marker of a page.") from error
    rejections = [] if marker else await rejections_of(at, who, server, REJECTIONS)
    body: dict[str, Any] = {
        "server_id": server.id,
        "actions": [_action(chapter, told, who) for chapter in told.chapters],
        "rejections": [rejection(one) for one in rejections],
        "position": position,
    }
    if told.next_marker:
        body["next_marker"] = told.next_marker
    return Json(body, headers={"X-Log-Position": str(position)})


def _action(chapter: Chapter, told: Story, who: Caller) -> dict[str, Any]:
    action = chapter.action
    first = chapter.entries[0] if chapter.entries else None
    return action_document(action, who) | {
        "caused_by": None if first is None else first.cause or None,
        "steps": [
            redacted(msgspec.to_builtins(step), operator=who.is_admin) | {"seconds": seconds(step)}
            for step in action.steps
        ],
        "events": [_entry(entry, told) for entry in chapter.entries],
    }


def action_document(action: ActionRow, who: Caller) -> dict[str, Any]:
    plain = {
        field.name: getattr(action, field.name)
        for field in msgspec.structs.fields(action)
        if field.name not in ("steps", "events")
    }
    shown: dict[str, Any] = redacted(msgspec.to_builtins(plain), operator=who.is_admin)
    return shown | {"seconds": seconds(action)}


def seconds(row: Any) -> float | None:
    """How long it took; None while it runs."""
    return None if row.finish_time is None else round((row.finish_time - row.start_time).total_seconds(), 6)


def _entry(entry: Entry, told: Story) -> dict[str, Any]:
    return {
        "id": entry.id,
        "position": entry.position,
        "version": entry.version,
        "type": entry.type,
        "phase": entry.phase,
        "step": entry.step or None,
        "undo": entry.undo,
        "at": entry.at,
        "actor": entry.actor,
        "request_id": entry.request_id,
        "correlation_id": entry.correlation_id,
        "caused_by": entry.cause or None,
        "led_to": list(told.led_to.get(entry.position, ())),
        "host": entry.host,
        "message": entry.message,
        "fault": entry.fault,
        "details": entry.details,
        "changed": entry.changed,
        "hash": entry.hash,
    }


def rejection(row: RejectionRow) -> dict[str, Any]:
    """A refused command as its project may see it."""
    return {
        "at": row.at,
        "command": row.command,
        "by": row.user_name or row.user_id,
        "request_id": row.request_id,
        "code": row.code,
        "reason": row.reason,
        "message": row.message,
        "hint": row.hint,
        "params": redacted(row.params, operator=False),
    }
