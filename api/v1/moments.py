"""A moment of servers: a position of the log, or a time. The state then is the one that their commits carry.

A moment before the server's first commit is refused (404); one after its last is the newest state; one that the log
has not come to yet is refused (400), for nobody knows it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from domain.errors import Invalid, NotFound, Unavailable
from domain.server import Server
from eventlog.envelope import Recorded
from projections.as_of import Moment, NotYetKnown, parse_moment, server_at
from projections.as_of_list import Page, servers_at
from projections.query import ServerQuery

if TYPE_CHECKING:
    from api.services import Services

NOW = 1 << 50
"""Later than any position: what is true now."""
CLOCKS = timedelta(seconds=5)
"""How far the clocks of two machines may differ before a moment counts as one to come."""


def parse(text: str, name: str = "as_of") -> Moment:
    """A position such as `1204`, or an ISO 8601 time (UTC unless it has an offset). Raises 400."""
    text = text.strip()
    try:
        # A plus sign that nobody escaped arrives as a space.
        moment = parse_moment(text.replace(" ", "+") if "T" in text else text)
    except (ValueError, OverflowError) as error:
        hint = "Give a position of the log (1204) or a time (2026-01-31T03:12:00Z)."
        raise Invalid(f"{name} is no moment: {text!r}", hint=hint) from error
    return moment


async def state_at(at: Services, server_id: str, moment: Moment) -> tuple[Server, Recorded]:
    """The server at that moment and the commit that made it so. Raises 404 when it did not exist yet."""
    await _refuse_what_is_to_come(at, moment)
    try:
        found = await server_at(at.read, at.log, server_id, moment)
    except NotYetKnown as error:
        raise Unavailable(str(error), reason="read_model_behind") from error
    if found is None:
        raise NotFound(
            f"Instance {server_id} did not exist at {moment}.",
            hint="Choose a later moment; its history shows when it was created.",
            reason="not_yet",
        )
    return found


async def list_at(at: Services, query: ServerQuery, moment: Moment) -> Page:
    """The servers asked for as they were at that moment. Raises MarkerNotFound, InvalidQuery."""
    await _refuse_what_is_to_come(at, moment)
    try:
        return await servers_at(at.read, at.log, query, moment)
    except NotYetKnown as error:
        raise Unavailable(str(error), reason="read_model_behind") from error


async def _refuse_what_is_to_come(at: Services, moment: Moment) -> None:
    if isinstance(moment, datetime):
        now = datetime.now(UTC)
        if moment <= now + CLOCKS:
            return
        newest = f"it is {now:%Y-%m-%dT%H:%M:%SZ}"
    else:
        if moment == NOW or moment <= at.read.position or moment <= (last := await at.log.last_position()):
            return
        newest = f"the newest position is {last}"
    raise Invalid(f"The log does not know {moment} yet: {newest}.", hint="Choose an earlier moment.", reason="to_come")
