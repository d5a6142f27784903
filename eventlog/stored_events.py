"""How commits look to the `eventsourcing` library, and how its events look as commits.

The library's events are packed into commits of the kinds `library...`: one event of a commit per stored event, the
topic as its type, the state as text or base64 in its data, together with the library's own version number. Commits of
every other kind are chronova's own and are shown as they are: the event's type as topic, its data as state.

A notification's id is derived from the commit's position and the place in the commit: event i of n at position p has
`(p << 10) - (n - 1 - i)`. Ids grow with the log but have gaps; the last event of a commit has exactly `p << 10`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

import msgspec
from eventsourcing.persistence import Notification, StoredEvent

from eventlog.envelope import Commit, Event, Recorded

ID_BITS = 10
MAX_EVENTS_PER_COMMIT = 1 << ID_BITS
LIBRARY_KIND = "library"
# Ids that are not UUIDs become subject tokens in hexadecimal.
TEXT_ID = "text_"


class Packed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a packed event."""

    version: int
    text: str | None = None
    base64: bytes | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Packed).decode


def is_library_kind(kind: str) -> bool:
    return kind == LIBRARY_KIND or kind.startswith(f"{LIBRARY_KIND}-")


def token_of(originator_id: UUID | str) -> str:
    return str(originator_id) if isinstance(originator_id, UUID) else TEXT_ID + originator_id.encode().hex()


def originator_of(id: str) -> UUID | str:
    if id.startswith(TEXT_ID):
        return bytes.fromhex(id.removeprefix(TEXT_ID)).decode()
    try:
        return UUID(id)
    except ValueError:
        return id


def pack(stored_events: Sequence[StoredEvent]) -> list[Event]:
    return [Event(one.topic, 1, msgspec.Raw(_encode(_packed(one)))) for one in stored_events]


def unpack(commit: Commit) -> list[StoredEvent]:
    """The events of a commit, oldest first."""
    originator_id = originator_of(commit.id)
    if is_library_kind(commit.kind):
        packed = [(event.type, _decode(event.data)) for event in commit.events]
        return [StoredEvent(originator_id, one.version, topic, _state(one)) for topic, one in packed]
    return [
        StoredEvent(originator_id, version, event.type, bytes(event.data))
        for version, event in enumerate(commit.events, commit.first_version)
    ]


def notifications(recorded: Recorded) -> Iterator[Notification]:
    """The events of a commit with their ids, in order."""
    stored_events = unpack(recorded.commit)
    for id, one in zip(notification_ids(recorded.position, len(stored_events)), stored_events, strict=True):
        yield Notification(
            originator_id=one.originator_id,
            originator_version=one.originator_version,
            topic=one.topic,
            state=one.state,
            id=id,
        )


def notification_ids(position: int, count: int) -> range:
    last = position << ID_BITS
    return range(last - count + 1, last + 1)


def position_of(notification_id: int) -> int:
    """The position of the commit that an id belongs to, or would belong to."""
    return (notification_id + MAX_EVENTS_PER_COMMIT - 1) >> ID_BITS


def _packed(one: StoredEvent) -> Packed:
    try:
        return Packed(one.originator_version, text=one.state.decode())
    except UnicodeDecodeError:
        return Packed(one.originator_version, base64=one.state)


def _state(packed: Packed) -> bytes:
    return packed.text.encode() if packed.text is not None else packed.base64 or b""
