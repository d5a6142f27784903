"""The envelope: one byte form, hash over exact bytes, subjects without user text."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from eventlog.envelope import Commit, Event, decode, encode, split, subject_of
from eventlog.errors import CorruptMessage, NewerCommit
from tests.eventlog_samples import META, events

COMMIT = Commit(
    cid="c1",
    kind="server",
    id="a",
    version=5,
    meta=META,
    events=events("server.stop.accepted", "server.stop.step_started"),
    state=msgspec.Raw(b'{"vm_state": "active",  "name":"\xc3\xa4"}'),
    prev="0" * 64,
)


def test_a_stored_message_is_json_with_the_hash_of_the_exact_bytes_of_the_commit() -> None:
    digest, raw = encode(COMMIT)
    stored = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    assert list(stored) == ["hash", "c"]
    assert sha256(bytes(stored["c"])).hexdigest() == digest == msgspec.json.decode(bytes(stored["hash"]))


def test_the_stored_form_never_changes() -> None:
    """Logs are kept for ever: whoever has to change this line has to keep reading the old one as well."""
    commit = Commit(
        cid="c1", kind="server", id="a", version=1, meta=META, events=events(), state=msgspec.Raw(b"null"), prev="p"
    )
    assert encode(commit)[1] == (
        b'{"hash":"7740eacb05157bf8853cf082dc7663cec76c00199271440e48e67361ed9da454","c":{"cid":"c1","kind":"server",'
        b'"id":"a","version":1,"meta":{"actor":{"user_id":"u-1","user_name":"ada","project_id":"p-1",'
        b'"project_name":"demo","roles":["member"],"remote":"192.0.2.7"},"request_id":"req-1",'
        b'"occurred_at":"2026-01-02T03:04:05.678901Z"},"events":[{"type":"server.stop.accepted","data":{"n":1}}],'
        b'"state":null,"prev":"p"}}'
    )


def test_a_commit_is_one_line() -> None:
    with pytest.raises(ValueError, match="without line breaks"):
        encode(msgspec.structs.replace(COMMIT, state=msgspec.Raw(b'{\n"a":1}')))


def test_decoding_gives_back_what_was_encoded() -> None:
    digest, raw = encode(COMMIT)
    recorded = decode(7, "log.server.a", raw)
    assert (recorded.position, recorded.hash, recorded.raw) == (7, digest, raw)
    assert encode(recorded.commit) == (digest, raw)
    assert recorded.commit.meta == META
    assert bytes(recorded.commit.state) == b'{"vm_state": "active",  "name":"\xc3\xa4"}'


def test_the_first_version_counts_back_over_the_events_of_the_commit() -> None:
    assert COMMIT.first_version == 4


def test_defaults_take_no_space() -> None:
    _, raw = encode(msgspec.structs.replace(COMMIT, prev=""))
    assert b'"prev"' not in raw
    assert b'"v":1' not in raw


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"order1", b'{"hash":"', encode(COMMIT)[1][:-2], encode(COMMIT)[1] + b" ", b" " + encode(COMMIT)[1]],
)
def test_a_message_of_another_form_has_no_parts(raw: bytes) -> None:
    assert split(raw) is None


@pytest.mark.parametrize("raw", [b"order1", encode(COMMIT)[1][:-1], encode(COMMIT)[1].replace(b'"cid"', b'"sid"')])
def test_what_is_not_a_commit_is_reported_with_its_place(raw: bytes) -> None:
    with pytest.raises(CorruptMessage, match=r"position 9 \(log\.server\.a\)") as caught:
        decode(9, "log.server.a", raw)
    assert caught.value.position == 9


def test_a_subject_is_made_of_kind_and_id() -> None:
    assert subject_of("server", "a-1", "log") == "log.server.a-1"


@pytest.mark.parametrize("id", ["", "a.b", "*", ">", "a b", "a\r\n", "ä", "x" * 129])
def test_user_text_never_becomes_a_subject(id: str) -> None:
    with pytest.raises(ValueError, match="no aggregate can be named"):
        subject_of("server", id)
    with pytest.raises(ValueError, match="no aggregate can be named"):
        subject_of(id, "a")


@pytest.mark.parametrize(
    "newer",
    [
        pytest.param(msgspec.structs.replace(COMMIT, v=2), id="state"),
        pytest.param(
            msgspec.structs.replace(COMMIT, events=[*COMMIT.events, Event("server.stop.failed", 2)]), id="event"
        ),
    ],
)
def test_what_a_newer_version_wrote_is_not_read_as_something_else(newer: Commit) -> None:
    with pytest.raises(NewerCommit, match=r"position 3 \(log\.server\.a\): a newer chronova wrote this commit"):
        decode(3, "log.server.a", encode(newer)[1])
