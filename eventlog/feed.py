"""An ordered, push-delivered run of stored messages: the raw material of scanning and following.

A feed is one ephemeral JetStream consumer, read through a plain subscription. It delivers every matching message once
and in order, or it breaks: it compares the consumer's own count with what arrived, on every message and on every
heartbeat, and breaks when they differ, when heartbeats stop or when the connection does. Whoever reads it opens the
next feed after the last position handled; nothing is ever skipped.

Back-pressure is JetStream's flow control: with too much buffered, the feed leaves the server's flow-control request
unanswered until the reader has caught up, so a slow reader costs bounded memory here and none in the server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import msgspec

from eventlog.errors import LogError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from eventlog.mux import RequestMux

HEARTBEAT_SECONDS = 2
PATIENCE_SECONDS = 3 * HEARTBEAT_SECONDS
INACTIVE_SECONDS = 10
BUFFER_MESSAGES = 8192
BUFFER_BYTES = 16 << 20


class FeedBroken(Exception):
    """The feed can not vouch for completeness any more: open another one after the last position handled."""


class Message(NamedTuple):
    """A stored message. From a feed, `pending` is how many more matched at the time it was sent."""

    position: int
    subject: str
    data: bytes
    recorded_at: datetime
    pending: int = 0


class _ApiError(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _ConsumerCreated(msgspec.Struct):
    num_pending: int = 0
    error: _ApiError | None = None


_decode_created = msgspec.json.Decoder(_ConsumerCreated).decode


class Feed:
    """One consumer's messages. `expected` is how many matched when it was opened."""

    def __init__(self, client: Client, mux: RequestMux, stream: str, filter_subject: str) -> None:
        self._client = client
        self._mux = mux
        self._stream = stream
        self._filter = filter_subject
        self._name = uuid4().hex
        self._buffer: deque[Message] = deque()
        self._buffered_bytes = 0
        self._wake = asyncio.Event()
        self._received = 0
        self._broken = ""
        self._unanswered = ""
        self._pending = 0
        self._subscription: Subscription | None = None
        self.expected = 0

    async def open(self, *, after: int = 0, last_per_subject: bool = False) -> None:
        """Start delivery: after a position, or the newest message of every matching subject."""
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(inbox, cb=self._on_message)
        start: dict[str, Any] = {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
        config = {
            "name": self._name,
            "deliver_subject": inbox,
            "filter_subject": self._filter,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": HEARTBEAT_SECONDS * 10**9,
            "inactive_threshold": INACTIVE_SECONDS * 10**9,
            "mem_storage": True,
            "num_replicas": 1,
            **({"deliver_policy": "last_per_subject"} if last_per_subject else start),
        }
        answer = await self._mux.request(
            f"$JS.API.CONSUMER.CREATE.{self._stream}.{self._name}.{self._filter}",
            msgspec.json.encode({"stream_name": self._stream, "config": config}),
        )
        if not answer.data:
            raise FeedBroken("JetStream does not answer")
        created = _decode_created(answer.data)
        if created.error is not None:
            raise LogError(f"JetStream refuses to read the log: {created.error.description}")
        self.expected = created.num_pending
        if not self._received:
            self._pending = self.expected

    async def batch(self, limit: int) -> list[Message]:
        """The next 1 to `limit` messages; waits for them as long as the feed is sound. Raises FeedBroken."""
        while not self._buffer:
            if self._broken:
                raise FeedBroken(self._broken)
            self._wake.clear()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                raise FeedBroken(f"no sign of life from JetStream in {PATIENCE_SECONDS} s") from None
        taken = [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]
        self._buffered_bytes -= sum(len(message.data) for message in taken)
        if self._unanswered and not self._is_full():
            reply, self._unanswered = self._unanswered, ""
            await self._client.publish(reply)
        return taken

    @property
    def waiting(self) -> int:
        """How many messages are known to follow those that were taken, here and in the server."""
        return len(self._buffer) + self._pending

    def break_off(self, why: str) -> None:
        """Deliver what is buffered, then break."""
        self._broken = self._broken or why
        self._wake.set()

    async def close(self) -> None:
        self.break_off("closed")
        if self._subscription is None or self._client.is_closed:
            return
        await self._subscription.unsubscribe()
        if self._client.is_connected:
            await self._client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")

    def _is_full(self) -> bool:
        return len(self._buffer) >= BUFFER_MESSAGES or self._buffered_bytes >= BUFFER_BYTES

    async def _on_message(self, message: Msg) -> None:
        if self._broken:
            return
        headers = message.headers
        if headers is not None and headers.get("Status") == "100":
            await self._on_control(message, headers)
        else:
            self._on_data(message)
        self._wake.set()

    def _on_data(self, message: Msg) -> None:
        # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<position>.<count>.<time>.<pending>[.<token>]
        fields = message.reply.split(".")
        base = 2 if len(fields) == 9 else 4
        position, count, stored_ns, pending = (int(field) for field in fields[base + 3 : base + 7])
        if count != self._received + 1:
            self.break_off(f"message {self._received + 1} of the consumer is missing")
            return
        self._received = count
        self._pending = pending
        recorded_at = datetime.fromtimestamp(stored_ns / 1e9, UTC)
        self._buffer.append(Message(position, message.subject, message.data, recorded_at, pending))
        self._buffered_bytes += len(message.data)

    async def _on_control(self, message: Msg, headers: dict[str, str]) -> None:
        sent = headers.get("Nats-Last-Consumer")
        if sent is not None and int(sent) != self._received:
            self.break_off(f"{sent} messages were sent and {self._received} arrived")
            return
        reply = message.reply or headers.get("Nats-Consumer-Stalled", "")
        if not reply:
            return
        if self._is_full():
            self._unanswered = reply
        else:
            await self._client.publish(reply)
