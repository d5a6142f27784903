"""The few JetStream API calls of the hot path, as plain requests: publish with a condition, direct get, leader get.

A direct get is answered by any replica and may be a moment behind; a leader get is not. Both return a stored message
or None. `NoAnswer` means that the server did not say; `LogUnavailable` that nothing was sent.
"""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from eventlog.errors import LogError, LogUnavailable
from eventlog.feed import Message
from eventlog.mux import NoAnswer

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from eventlog.mux import RequestMux

EXPECTED_LAST = "Nats-Expected-Last-Sequence"
EXPECTED_LAST_OF_SUBJECT = "Nats-Expected-Last-Subject-Sequence"

NO_MESSAGE_FOUND = 10037
WRONG_LAST_SEQUENCE = 10071
# Stream full, out of resources or storage, message too large for the stream: the server stored nothing.
REFUSED = {10023, 10047, 10054, 10077}


class _ApiError(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    seq: int = 0
    error: _ApiError | None = None


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    time: datetime
    data: str = ""


class _GetAnswer(msgspec.Struct):
    message: _Stored | None = None
    error: _ApiError | None = None


class _State(msgspec.Struct):
    last_seq: int


class _InfoAnswer(msgspec.Struct):
    state: _State | None = None
    error: _ApiError | None = None


_decode_ack = msgspec.json.Decoder(_PubAck).decode
_decode_get = msgspec.json.Decoder(_GetAnswer).decode
_decode_info = msgspec.json.Decoder(_InfoAnswer).decode


class JetStreamCalls:
    """The calls, for one stream."""

    def __init__(self, mux: RequestMux, stream: str) -> None:
        self._mux = mux
        self._direct = f"$JS.API.DIRECT.GET.{stream}"
        self._leader = f"$JS.API.STREAM.MSG.GET.{stream}"
        self._info = f"$JS.API.STREAM.INFO.{stream}"

    async def publish(self, subject: str, raw: bytes, after: int) -> int | None:
        """Store a message if `after` is the subject's last position; the new position, or None if it is not."""
        return await self._publish(subject, raw, {EXPECTED_LAST_OF_SUBJECT: str(after)})

    async def publish_at(self, subject: str, raw: bytes, position: int) -> int | None:
        """Store a message if its position will be this one; the position, or None if it will not."""
        return await self._publish(subject, raw, {EXPECTED_LAST: str(position - 1)})

    async def publish_freely(self, subject: str, raw: bytes) -> None:
        """Store a message in whichever stream takes this subject."""
        await self._publish(subject, raw, None)

    async def _publish(self, subject: str, raw: bytes, headers: dict[str, str] | None) -> int | None:
        answer = await self._mux.request(subject, raw, headers)
        _must_have_data(answer)
        ack = _decode_ack(answer.data)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code == WRONG_LAST_SEQUENCE:
            return None
        if ack.error.err_code in REFUSED:
            raise LogUnavailable(f"the log takes no commit: {ack.error.description}")
        raise NoAnswer(f"the log did not take the commit: {ack.error.description}")

    async def last(self, subject: str) -> Message | None:
        return _direct_message(await self._mux.request(f"{self._direct}.{subject}"))

    async def at(self, position: int) -> Message | None:
        return _direct_message(await self._mux.request(self._direct, b'{"seq":%d}' % position))

    async def last_from_leader(self, subject: str) -> Message | None:
        return _leader_message(await self._mux.request(self._leader, b'{"last_by_subj":"%s"}' % subject.encode()))

    async def next_from_leader(self, subject: str, after: int) -> Message | None:
        query = b'{"seq":%d,"next_by_subj":"%s"}' % (after + 1, subject.encode())
        return _leader_message(await self._mux.request(self._leader, query))

    async def last_position(self) -> int:
        answer = await self._mux.request(self._info)
        _must_have_data(answer)
        info = _decode_info(answer.data)
        if info.state is None:
            raise _failed(info.error)
        return info.state.last_seq


def _must_have_data(answer: Msg) -> None:
    if not answer.data:
        status = (answer.headers or {}).get("Status", "")
        raise NoAnswer(f"JetStream does not answer (status {status or 'unknown'})")


def _failed(error: _ApiError | None) -> NoAnswer | LogError:
    if error is None or error.err_code in (0, 10008, 10009):
        return NoAnswer("JetStream is not ready")
    return LogError(f"JetStream refuses to read the log: {error.description}")


def _direct_message(answer: Msg) -> Message | None:
    headers = answer.headers or {}
    status = headers.get("Status")
    if status == "404":
        return None
    if status is not None or "Nats-Sequence" not in headers:
        raise NoAnswer(f"JetStream does not answer (status {status or 'unknown'})")
    stored_at = datetime.fromisoformat(headers["Nats-Time-Stamp"])
    return Message(int(headers["Nats-Sequence"]), headers["Nats-Subject"], answer.data, stored_at)


def _leader_message(answer: Msg) -> Message | None:
    _must_have_data(answer)
    found = _decode_get(answer.data)
    if found.message is None:
        if found.error is not None and found.error.err_code == NO_MESSAGE_FOUND:
            return None
        raise _failed(found.error)
    stored = found.message
    return Message(stored.seq, stored.subject, b64decode(stored.data), stored.time.astimezone(UTC))
