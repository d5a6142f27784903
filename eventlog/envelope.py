"""The envelope of a commit, and its one byte form.

A commit is all events that one command appended to one aggregate, who appended them, and the aggregate's state after
them. It is stored as the message `{"hash":"<sha256>","c":{...}}`, where the hash is that of the exact bytes of `c`,
and `c.prev` is the hash of the aggregate's previous commit: the commits of an aggregate form a chain.

Encoding and decoding keep those bytes as they are: a message is never re-encoded, so a hash can always be checked
against what is stored. `decode` accepts exactly the form that `encode` writes and raises `CorruptMessage` for
anything else; it does not compute hashes, which is the task of `eventlog.verify`.

`v` is the version of the schema of a commit's state and of an event's data. A version that is not known here was
written by a newer chronova and is refused (`NewerCommit`) instead of being read as something else.
"""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256

import msgspec

from eventlog.errors import CorruptMessage, NewerCommit

DEFAULT_PREFIX = "log"
SCHEMA = 1  # fields with defaults may be added without a new one: old commits are read as they always were

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HEAD = b'{"hash":"'
_MIDDLE = b'","c":'
_HASH = slice(len(_HEAD), len(_HEAD) + 64)
_COMMIT = slice(_HASH.stop + len(_MIDDLE), -1)


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who caused a commit: a user with a token, or a part of chronova acting by itself."""

    user_id: str
    user_name: str = ""
    project_id: str | None = None
    project_name: str = ""
    roles: tuple[str, ...] = ()
    remote: str = ""


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why and when a commit was made. `occurred_at` is in UTC; `causation_id` names the commit or report behind it."""

    actor: Actor
    request_id: str
    occurred_at: datetime
    correlation_id: str = ""
    causation_id: str = ""
    idempotency_key: str | None = None


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event: its type, such as `server.stop.accepted`, the version of its schema, and its data as JSON."""

    type: str
    v: int = 1
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Commit(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """All events that one command appended to one aggregate. `version` is that of the last event, counted from 1."""

    v: int = 1
    cid: str
    kind: str
    id: str
    version: int
    meta: Meta
    events: list[Event]
    state: msgspec.Raw
    prev: str = ""

    @property
    def first_version(self) -> int:
        return self.version - len(self.events) + 1


class Recorded(msgspec.Struct, frozen=True):
    """A commit with its place in the log. `raw` is the stored message, byte for byte."""

    position: int
    hash: str
    commit: Commit
    raw: bytes
    recorded_at: datetime | None = None


_encode_commit = msgspec.json.Encoder().encode
_decode_commit = msgspec.json.Decoder(Commit).decode


def subject_of(kind: str, id: str, prefix: str = DEFAULT_PREFIX) -> str:
    """The subject of an aggregate. Kind and id become subject tokens, so they hold no user text (ValueError)."""
    if not (_TOKEN.fullmatch(kind) and _TOKEN.fullmatch(id)):
        raise ValueError(f"no aggregate can be named kind={kind!r} id={id!r}: letters, digits, '-' and '_' only")
    return f"{prefix}.{kind}.{id}"


def encode(commit: Commit) -> tuple[str, bytes]:
    """The hash of a commit and the message to store, which is one line (ValueError if data or state is not)."""
    body = _encode_commit(commit)
    if b"\n" in body:
        raise ValueError("event data and state must be JSON without line breaks")
    digest = sha256(body).hexdigest()
    return digest, b"".join((_HEAD, digest.encode(), _MIDDLE, body, b"}"))


def split(raw: bytes) -> tuple[str, bytes] | None:
    """The stored hash and the bytes it is meant to be the hash of; None if the message has another form."""
    if raw[: _HASH.start] != _HEAD or raw[_HASH.stop : _COMMIT.start] != _MIDDLE or raw[-1:] != b"}":
        return None
    return raw[_HASH].decode("ascii", "replace"), raw[_COMMIT]


def decode(position: int, subject: str, raw: bytes, recorded_at: datetime | None = None) -> Recorded:
    """The commit in a stored message. Raises CorruptMessage, NewerCommit."""
    parts = split(raw)
    if parts is None:
        raise CorruptMessage(position, subject, "the message has not the form of a commit")
    try:
        commit = _decode_commit(parts[1])
    except msgspec.DecodeError as error:
        raise CorruptMessage(position, subject, f"the commit can not be read: {error}") from error
    if commit.v != SCHEMA or any(event.v != SCHEMA for event in commit.events):
        raise NewerCommit(position, subject)
    return Recorded(position, parts[0], commit, raw, recorded_at)
