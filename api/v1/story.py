"""A server's history as a story: actions, the steps of each, the events of each, and what caused what.

Actions and steps come from the read model, one page at a time; the events of a page are read from the log, which
holds what they changed. An event belongs to the action that its `request_id` names. Every event keeps its cause (the
commit or report behind it), so links work in both directions.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from api.v1.scope import redacted
from domain.server import decode_event
from eventlog.envelope import Actor, Recorded
from eventlog.errors import LogUnavailable
from eventlog.mux import NoAnswer
from projections.rows import ActionRow

if TYPE_CHECKING:
    from api.auth import Caller
    from api.services import Services

REPORT = "report:"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One event, as far as its reader may see it. `changed`: the fields it set. `caused_by`: a position, or None."""

    position: int
    index: int
    version: int
    type: str
    phase: str
    step: str
    undo: bool
    at: datetime
    actor: Actor
    request_id: str
    correlation_id: str
    cause: str
    host: str | None
    message: str
    fault: dict[str, Any] | None
    details: dict[str, Any]
    changed: dict[str, Any]
    hash: str

    @property
    def id(self) -> str:
        return f"{self.position}.{self.index}"

    @property
    def caused_by(self) -> int | None:
        return int(self.cause) if self.cause.isascii() and self.cause.isdigit() else None

    @property
    def by_report(self) -> bool:
        return self.cause.startswith(REPORT)


@dataclass(frozen=True)
class Chapter:
    """One action with its events, oldest first."""

    action: ActionRow
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Story:
    """A page of a history, newest action first. `next_marker` is the request id that the next page goes on after.

    `whole` is false when the log could not be read: then the events are missing.
    """

    chapters: tuple[Chapter, ...]
    next_marker: str | None = None
    led_to: dict[int, tuple[int, ...]] = field(default_factory=dict)
    whole: bool = True


async def story(
    at: Services,
    who: Caller,
    server_id: str,
    *,
    limit: int,
    marker: str | None = None,
    log_seconds: float | None = None,
) -> Story:
    """The newest `limit` actions after the marker. Raises MarkerNotFound.

    With `log_seconds` a log that can not be read within that time costs the events only; without, it is raised.
    """
    actions = await at.read.actions(server_id, limit=limit + 1, marker=marker, steps=True)
    more = len(actions) > limit
    actions = actions[:limit]
    whole = True
    try:
        async with asyncio.timeout(log_seconds):
            entries = await entries_of(at, who, server_id, actions)
    except (LogUnavailable, NoAnswer, TimeoutError):
        if log_seconds is None:
            raise
        entries, whole = [], False
    chapters = tuple(
        Chapter(action, tuple(one for one in entries if one.request_id == action.request_id and _belongs(one, action)))
        for action in actions
    )
    led_to: dict[int, tuple[int, ...]] = {}
    for entry in entries:
        if (cause := entry.caused_by) is not None and entry.position not in led_to.get(cause, ()):
            led_to[cause] = (*led_to.get(cause, ()), entry.position)
    return Story(chapters, actions[-1].request_id if more else None, led_to, whole)


def _belongs(entry: Entry, action: ActionRow) -> bool:
    return (
        entry.type.split(".")[1] == action.command and action.position_first <= entry.position <= action.position_last
    )


async def entries_of(at: Services, who: Caller, server_id: str, actions: list[ActionRow]) -> list[Entry]:
    """The events of these actions, oldest first."""
    if not actions:
        return []
    first, last = min(one.position_first for one in actions), max(one.position_last for one in actions)
    commits = await at.log.read("server", server_id, after_position=first - 1, upto=last)
    return [entry for commit in commits for entry in entries(commit, who)]


def entries(recorded: Recorded, who: Caller) -> list[Entry]:
    """The events of a commit as history entries."""
    commit, found = recorded.commit, []
    meta = commit.meta
    for index, event in enumerate(commit.events):
        decoded = decode_event(event.type, event.data)
        body = decoded.body
        shown = redacted(msgspec.to_builtins(body), operator=who.is_admin)
        found.append(
            Entry(
                position=recorded.position,
                index=index,
                version=commit.first_version + index,
                type=event.type,
                phase=decoded.phase,
                step=body.step,
                undo=body.undo,
                at=meta.occurred_at,
                actor=meta.actor,
                request_id=body.request_id or meta.request_id,
                correlation_id=meta.correlation_id or meta.request_id,
                cause=meta.causation_id,
                host=body.host,
                message=body.message,
                fault=shown.get("fault"),
                details=shown.get("details", {}),
                changed=shown.get("patch", {}),
                hash=recorded.hash,
            )
        )
    return found
