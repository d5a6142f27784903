"""A moment of a server: a position of the log, or a time. The state then is the one that its commit carries.

A moment before the server's first commit is refused (404); one after its last is the newest state.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from domain.errors import Invalid, NotFound
from domain.server import Server, decode_server
from eventlog.envelope import Recorded

if TYPE_CHECKING:
    from api.services import Services

Moment = int | datetime
LAST = 1 << 50
"""Later than any position: now."""


def parse(text: str, name: str = "as_of") -> Moment:
    """A position such as `1204`, or an ISO 8601 time (UTC unless it has an offset). Raises 400."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
    except ValueError as error:
        hint = "Give a position of the log (1204) or a time (2026-01-31T03:12:00Z)."
        raise Invalid(f"{name} is no moment: {text!r}", hint=hint) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def commit_at(at: Services, server_id: str, moment: Moment) -> Recorded:
    """The newest commit of the server at that moment. Raises 404 when it did not exist yet."""
    if isinstance(moment, int):
        position = await at.read.commit_position(server_id, upto=min(moment, LAST))
    else:
        position = await at.read.commit_position(server_id, at=moment)
    recorded = await at.log.at(position) if position else None
    if recorded is None:
        raise NotFound(
            f"Instance {server_id} did not exist at {moment}",
            hint="Choose a later moment; its history shows when it was created.",
            reason="not_yet",
        )
    return recorded


def state_of(recorded: Recorded) -> Server:
    return decode_server(recorded.commit.state)
