"""What the fold reads of an event, and nothing else: decoding less is most of the speed of a replay.

Parts that are only passed on to a row (`details`, `fault`, `sub_steps`) stay JSON as they are. The patch of an event
is not read: a commit carries the state after its events.
"""

from __future__ import annotations

import msgspec

from projections.schema import EVENTS_PER_COMMIT

NOTHING = msgspec.Raw(b"")


class Facts(msgspec.Struct, frozen=True):
    """The data of a server event (`domain.server.EventBody`), as far as the history shows it."""

    request_id: str = ""
    step: str = ""
    event: str | None = None
    host: str | None = None
    message: str = ""
    undo: bool = False
    fault: msgspec.Raw = NOTHING
    details: msgspec.Raw = NOTHING
    sub_steps: msgspec.Raw = NOTHING


decode_facts = msgspec.json.Decoder(Facts).decode


class _Percent(msgspec.Struct, frozen=True):
    progress: int | None = None


_decode_percent = msgspec.json.Decoder(_Percent).decode


def json_text(raw: msgspec.Raw) -> str | None:
    """The JSON as it stands in the log; None where nothing is said."""
    text = bytes(raw).decode()
    return None if text in ("", "null", "{}", "[]") else text


def percent_of(details: str | None) -> int | None:
    return None if details is None or '"progress"' not in details else _decode_percent(details).progress


def split_type(type_: str) -> tuple[str, str]:
    """Command and phase of an event type `<kind>.<command>.<phase>`; a type of another form is all command."""
    parts = type_.split(".")
    return (parts[1], parts[2]) if len(parts) == 3 else (type_, "")


def event_id(position: int, index: int) -> int:
    return position * EVENTS_PER_COMMIT + index


def position_of(id: int) -> int:
    return id // EVENTS_PER_COMMIT


class When(msgspec.Struct, frozen=True):
    """The place and time of the event in hand."""

    id: int
    position: int
    at: str


def failed(facts: Facts) -> bool:
    return bytes(facts.fault) not in (b"", b"null")
