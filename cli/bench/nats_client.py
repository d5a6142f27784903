"""Raw acknowledged publishes to JetStream: the limit that acceptance is held against.

The smallest client that can do it: one connection, prebuilt messages, acknowledgements counted as they come. What it
measures is the server and its disk, not a client library.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import msgspec

CONNECT_SECONDS = 5.0
STREAM = "BENCH_LIMIT"
SUBJECT = "bench.limit"


class Publisher(asyncio.Protocol):
    """Keeps `window` publishes in flight until `count` are acknowledged. Made by `connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._greeted = asyncio.get_running_loop().create_future()
        self._done: asyncio.Future[None] | None = None
        self._message = b""
        self._left = 0
        self._due = 0
        self._sent_at: dict[bytes, float] = {}
        self._number = 0
        self.latencies: list[float] = []

    @classmethod
    async def connect(cls, url: str, user: str | None, password: str | None) -> Publisher:
        place = urlsplit(url)
        async with asyncio.timeout(CONNECT_SECONDS):
            _, client = await asyncio.get_running_loop().create_connection(
                cls, place.hostname or "", place.port or 4222
            )
            await client._greeted
        options: dict[str, object] = {"verbose": False, "pedantic": False, "headers": True, "protocol": 1}
        if user:
            options |= {"user": user, "pass": password}
        client._write(b"CONNECT " + msgspec.json.encode(options) + b"\r\nSUB _BENCH.* 1\r\n")
        return client

    async def publish(self, payload: bytes, count: int, window: int) -> float:
        """The seconds that `count` acknowledged publishes took; `latencies` has each one's."""
        self.latencies = []
        self._message = b" %d\r\n%s\r\n" % (len(payload), payload)
        self._left = count
        self._due = count
        self._done = asyncio.get_running_loop().create_future()
        began = perf_counter()
        for _ in range(min(window, count)):
            self._publish_next()
        await self._done
        return perf_counter() - began

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(ConnectionError(f"NATS closed the connection ({error})"))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            line = data[at:end]
            if line.startswith(b"MSG "):
                words = line.split(b" ")
                after = end + 2 + int(words[-1]) + 2
                if after > len(data):
                    break
                self._acknowledged(words[1], data[end + 2 : after - 2])
                at = after
                continue
            at = end + 2
            if line == b"PING":
                self._write(b"PONG\r\n")
            elif line.startswith(b"INFO ") and not self._greeted.done():
                self._greeted.set_result(None)
            elif line.startswith(b"-ERR"):
                self._fail(ConnectionError(line.decode()))
        self._buffer = data[at:]

    def _acknowledged(self, reply: bytes, answer: bytes) -> None:
        self.latencies.append(perf_counter() - self._sent_at.pop(reply))
        if b'"error"' in answer or not answer:
            self._fail(ConnectionError(f"a publish was refused: {answer.decode(errors='replace') or 'no stream'}"))
            return
        self._due -= 1
        if self._left:
            self._publish_next()
        elif not self._due and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _publish_next(self) -> None:
        self._left -= 1
        self._number += 1
        reply = b"_BENCH.%d" % self._number
        self._sent_at[reply] = perf_counter()
        self._write(b"PUB " + SUBJECT.encode() + b" " + reply + self._message)

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            raise ConnectionError("NATS closed the connection")
        self._transport.write(data)

    def _fail(self, error: Exception) -> None:
        for future in (self._greeted, self._done):
            if future is not None and not future.done():
                future.set_exception(error)
