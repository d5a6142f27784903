"""The state of a server, or of any aggregate, as it was at a position or a time; and what differs between two states.

A commit carries the state after it, so the state at a moment is that of the newest commit until then: the read model's
event table names that commit, the log gives it. The cost is flat, however long the history is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.server import Server, decode_server
from eventlog.envelope import Recorded
from eventlog.log import EventLog
from projections.read_model import ReadModel

Moment = int | datetime  # a position, or a time


class NotYetKnown(LookupError):
    """The read model has not come as far as the position asked for, and the log has newer commits than that."""


async def commit_at(read: ReadModel, log: EventLog, kind: str, id: str, moment: Moment) -> Recorded | None:
    """The aggregate's newest commit at or before a moment; None if it did not exist then.

    A time means: the last commit that occurred at or before it. Raises NotYetKnown.
    """
    if isinstance(moment, int) and moment > read.position:
        newest = await log.last(kind, id)
        if newest is None or newest.position <= moment:
            return newest
        if not await read.wait_for(moment):
            raise NotYetKnown(f"the read model is at {read.position}, before {moment}: ask again in a moment")
    if isinstance(moment, int):
        position = await read.commit_position(id, upto=moment)
    else:
        position = await read.commit_position(id, at=moment)
    return await log.at(position) if position else None


async def server_at(read: ReadModel, log: EventLog, id: str, moment: Moment) -> tuple[Server, Recorded] | None:
    """The server then, and the commit that made it so."""
    recorded = await commit_at(read, log, "server", id, moment)
    return None if recorded is None else (decode_server(recorded.commit.state), recorded)


def parse_moment(text: str) -> Moment:
    """`as_of=` as people write it: a position, or an ISO 8601 time (UTC if it names no zone). Raises ValueError."""
    if text.isdecimal():
        return int(text)
    at = datetime.fromisoformat(text)
    try:
        return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except OverflowError as error:  # its offset carries it out of the years 1 to 9999
        raise ValueError(f"{text} is out of range") from error


def difference(before: Any | None, after: Any | None) -> dict[str, tuple[Any, Any]]:
    """The fields that differ between two states, as plain JSON values: {field: (before, after)}.

    Nested objects are taken apart (`flavor.ram`); lists are compared whole. A state that is None has no fields.
    """
    old, new = _flat(before), _flat(after)
    names = list(old) + [name for name in new if name not in old]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def _flat(state: Any | None, prefix: str = "") -> dict[str, Any]:
    if state is None:
        return {}
    values: dict[str, Any] = {}
    if isinstance(state, msgspec.Struct):
        # Field by field, so that a default is a value like any other.
        items = [(name, getattr(state, name)) for name in state.__struct_fields__]
    else:
        items = list(state.items())
    for name, value in items:
        if isinstance(value, (msgspec.Struct, dict)) and value:
            values |= _flat(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = msgspec.json.decode(msgspec.json.encode(value))
    return values
