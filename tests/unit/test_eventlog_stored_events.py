"""Commits as stored events and notifications of the `eventsourcing` library, and back."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest
from eventsourcing.persistence import StoredEvent

from eventlog.envelope import Commit, Recorded
from eventlog.stored_events import notification_ids, notifications, originator_of, pack, position_of, token_of, unpack
from tests.eventlog_samples import META, events


def commit(kind: str, id: str, *packed: StoredEvent) -> Commit:
    new = pack(packed) or events("server.stop.accepted", "server.stop.succeeded")
    return Commit(cid="c", kind=kind, id=id, version=7, meta=META, events=new, state=msgspec.Raw(b"null"))


@pytest.mark.parametrize("state", [b"", b'{"a":1}', "ä\n".encode(), b"\x00\xff\x80"])
def test_a_stored_event_survives_being_packed(state: bytes) -> None:
    id = uuid4()
    stored = StoredEvent(originator_id=id, originator_version=0, topic="module:Class.Event", state=state)
    assert unpack(commit("library", token_of(id), stored)) == [stored]


@pytest.mark.parametrize("id", [uuid4(), "a.b *>", "", "naïve"])
def test_every_id_has_a_token_and_comes_back(id: UUID | str) -> None:
    assert originator_of(token_of(id)) == id


def test_chronovas_own_commits_are_shown_as_they_are() -> None:
    id = uuid4()
    first, second = unpack(commit("server", str(id)))
    assert (first.originator_id, first.originator_version) == (id, 6)
    assert (second.topic, second.originator_version, second.state) == ("server.stop.succeeded", 7, b'{"n":1}')
    assert unpack(commit("checkpoint", "global"))[0].originator_id == "global"


def test_ids_grow_with_position_and_place_and_lead_back_to_the_position() -> None:
    assert list(notification_ids(1, 1)) == [1024]
    assert list(notification_ids(2, 3)) == [2046, 2047, 2048]
    assert notification_ids(5, 1024)[0] > notification_ids(4, 1)[-1]
    for position, count in [(1, 1), (1, 1024), (7, 3), (8_000_000_000_000, 1024)]:
        assert {position_of(id) for id in notification_ids(position, count)} == {position}
        assert notification_ids(position, count)[-1] < 1 << 53
    recorded = Recorded(3, "", commit("server", "a"), b"")
    assert [one.id for one in notifications(recorded)] == [3071, 3072]
