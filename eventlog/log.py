"""The log: append a commit, load an aggregate's newest one, read, scan and follow.

One JetStream stream; one message is one commit, on the subject of its aggregate (`log.<kind>.<id>`); a commit's
position is its stream sequence. Guarantees:

- `append` stores a commit only if the aggregate's newest commit is the one the caller decided on (`Conflict`
  otherwise), and returns only after the server acknowledged it.
- A lost acknowledgement is settled, not guessed: the commit is sent again with the same condition, and if the
  condition no longer holds, the commit after `expected` on the stream's leader tells by its commit id whose it is.
  Only when that can not be found out in time does `append` raise `LogUnavailable` with `ambiguous` set; the same call
  with the same commit id is then safe at any later time.
- While NATS is away every call fails at once with `LogUnavailable` instead of queueing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from eventlog import envelope
from eventlog.envelope import DEFAULT_PREFIX, Commit, Event, Meta, Recorded
from eventlog.errors import CommitTooLarge, Conflict, CorruptMessage, LogError, LogUnavailable, StreamMismatch
from eventlog.feed import Feed, FeedBroken, Message
from eventlog.follower import Follower, Handler, Turn
from eventlog.jetstream import JetStreamCalls
from eventlog.mux import NoAnswer, RequestMux, let_go
from eventlog.stream import MAX_COMMIT_BYTES, ensure_stream
from eventlog.tail import Tail

__all__ = [
    "CommitTooLarge",
    "Conflict",
    "CorruptMessage",
    "EventLog",
    "LogError",
    "LogUnavailable",
    "StreamMismatch",
]

DEFAULT_STREAM = "CHRONOVA_LOG"
MIN_SERVER = (2, 10)
REQUEST_SECONDS = 5.0
# How long `append` tries to settle a lost acknowledgement; a cluster needs about 5 s to elect a leader.
SETTLE_SECONDS = 15.0
SETTLE_PAUSE_SECONDS = 0.1
SCAN_BATCH = 1000
SCAN_ATTEMPTS = 5
SCAN_PAUSE_SECONDS = 0.2
BEHIND_SECONDS = 5.0  # for a server of a cluster to get what the leader has, before another one is asked
RECONNECT_PAUSE_SECONDS = 0.1
NO_ROOM_BYTES = 2 << 20  # a server that had no room for a commit has as little


class EventLog:
    """The log on one NATS connection. Made by `open`; belongs to the event loop it was opened on."""

    def __init__(self, client: Client, stream: str, prefix: str, replicas: int | None, timeout: float) -> None:
        self.nc = client
        self.replicas = replicas
        self.js: JetStreamContext = client.jetstream(timeout=timeout)
        self.stream = stream
        self.prefix = prefix
        self._mux = RequestMux(client, timeout)
        self._calls = JetStreamCalls(self._mux, stream)
        self._feeds: set[Feed] = set()
        self._on_reconnect: list[Callable[[], None]] = []
        self.tail = Tail(self)
        self.disk: Path | None = None  # where the server keeps the log, if that is on this machine

    @classmethod
    async def open(
        cls,
        servers: str | list[str],
        *,
        user: str | None = None,
        password: str | None = None,
        name: str = "chronova",
        stream: str = DEFAULT_STREAM,
        prefix: str = DEFAULT_PREFIX,
        replicas: int | None = None,
        create: bool = True,
        timeout: float = REQUEST_SECONDS,
    ) -> EventLog:
        """Connect, and create the stream or check the one that is there. Raises LogUnavailable, StreamMismatch.

        `replicas`: on how many servers of a cluster the stream is kept; None: as it is, a new one on one.
        `create`: false raises StreamMismatch if there is none.
        """
        client = Client()
        opened: list[EventLog] = []

        async def on_disconnect() -> None:
            for log in opened:
                log._disconnected()

        async def on_reconnect() -> None:
            for callback in [callback for log in opened for callback in log._on_reconnect]:
                callback()

        async def on_error(_: Exception) -> None:
            """Every call reports its own failure, and nats-py mends the connection: nothing is left to say here."""

        try:
            async with asyncio.timeout(timeout):
                await client.connect(
                    servers,
                    user=user,
                    password=password,
                    name=name,
                    connect_timeout=2,
                    reconnect_time_wait=RECONNECT_PAUSE_SECONDS,  # type: ignore[arg-type]  # nats-py sleeps for it: fractions work
                    max_reconnect_attempts=-1,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_reconnect,
                )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            await let_go(client)
            raise LogUnavailable(f"no NATS server answers at {_hosts(servers)}: is it running? ({error!r})") from error
        try:
            version = client.connected_server_version
            if (version.major, version.minor) < MIN_SERVER:
                raise StreamMismatch(f"nats-server {version} is too old: chronova needs 2.10 or newer")
            log = cls(client, stream, prefix, replicas, timeout)
            await ensure_stream(log.js, stream, prefix, replicas, timeout, create=create)
            try:
                await log._mux.open()
            except BaseException:
                await log._mux.close()
                raise
        except BaseException:
            await let_go(client)
            raise
        opened.append(log)
        return log

    def disk_is_full(self) -> bool:
        """Whether that is why nothing can be appended: a server that finds no room ends JetStream and is silent."""
        return self.disk is not None and shutil.disk_usage(self.disk).free < NO_ROOM_BYTES

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call back whenever NATS answers again: what it said meanwhile on core subjects was not heard here."""
        self._on_reconnect.append(callback)

    async def close(self) -> None:
        await self.tail.close()
        for feed in list(self._feeds):
            await feed.close()
        await self._mux.close()
        await let_go(self.nc)

    async def append(
        self,
        kind: str,
        id: str,
        *,
        expected: Recorded | None,
        events: list[Event],
        state: bytes,
        meta: Meta,
        cid: str | None = None,
    ) -> Recorded:
        """Append one commit after `expected` (None: the aggregate must not exist yet).

        If the commit after `expected` already has this commit id, that one is returned: a retry appends nothing.
        Raises Conflict, LogUnavailable, CommitTooLarge, and ValueError for a commit without events.
        """
        if not events:
            raise ValueError("a commit needs at least one event")
        commit = Commit(
            cid=cid or os.urandom(16).hex(),
            kind=kind,
            id=id,
            version=(expected.commit.version if expected else 0) + len(events),
            meta=meta,
            events=events,
            state=msgspec.Raw(state),
            prev=expected.hash if expected else "",
        )
        subject = envelope.subject_of(kind, id, self.prefix)
        digest, raw = envelope.encode(commit)
        if len(raw) > MAX_COMMIT_BYTES:
            raise CommitTooLarge(len(raw), MAX_COMMIT_BYTES)
        after = expected.position if expected else 0
        deadline = 0.0
        while True:
            try:
                position = await self._calls.publish(subject, raw, after)
                if position is None:
                    return await self._overtaken(commit, subject, after)
                recorded = Recorded(position, digest, commit, raw)
                self.tail.appended(recorded)
                return recorded
            except NoAnswer as error:
                doubt = error
                deadline = deadline or self._now() + SETTLE_SECONDS
            except LogUnavailable:
                if not deadline:
                    raise
            # Sending it again is harmless, for the condition lets it in at most once, and it is the only way to be
            # sure of a "no": a first copy that is still on its way can not be stored after the second.
            if self._now() > deadline:
                raise LogUnavailable(f"the log did not confirm the commit: {doubt}", ambiguous=True) from doubt
            await asyncio.sleep(SETTLE_PAUSE_SECONDS)

    async def put_at(self, position: int, subject: str, raw: bytes) -> None:
        """Store a message of an archive at the position it had, which must be the next one of the log.

        Raises LogError if it is not, LogUnavailable if the log did not confirm it.
        """
        try:
            stored = await self._calls.publish_at(subject, raw, position)
        except NoAnswer as error:
            raise LogUnavailable(f"position {position} was not confirmed: {error}", ambiguous=True) from error
        if stored != position:
            raise LogError(f"position {position} is taken: something else writes to this log")

    async def put_beside(self, subject: str, raw: bytes) -> None:
        """Store a message in another stream than the log. Raises LogUnavailable, `ambiguous` if it may be stored."""
        try:
            await self._calls.publish_freely(subject, raw)
        except NoAnswer as error:
            raise LogUnavailable(f"a message to {subject} was not confirmed: {error}", ambiguous=True) from error

    async def _overtaken(self, commit: Commit, subject: str, after: int) -> Recorded:
        """The commit that is where ours should have gone: ours after all, or Conflict with the newest one."""
        newest = self._decoded(await self._calls.last_from_leader(subject))
        if newest is not None and newest.position > after:
            first = newest
            if newest.commit.first_version > commit.first_version:
                first = self._decoded(await self._calls.next_from_leader(subject, after)) or newest
            if first.commit.cid == commit.cid:
                return first
        raise Conflict(commit.kind, commit.id, newest)

    async def last(self, kind: str, id: str) -> Recorded | None:
        """The aggregate's newest commit: one request of flat cost. On a cluster it may be a moment behind."""
        return await self._get(self._calls.last(envelope.subject_of(kind, id, self.prefix)))

    async def last_from_leader(self, kind: str, id: str) -> Recorded | None:
        """The aggregate's newest commit, never behind."""
        return await self._get(self._calls.last_from_leader(envelope.subject_of(kind, id, self.prefix)))

    async def at(self, position: int) -> Recorded | None:
        return await self._get(self._calls.at(position))

    async def last_position(self) -> int:
        """The position of the newest commit of the whole log; 0 while it is empty."""
        try:
            return await self._calls.last_position()
        except NoAnswer as error:
            raise LogUnavailable(str(error)) from error

    async def newest(self, kind: str | None = None) -> Recorded | None:
        """The newest commit of any aggregate of a kind, or of the whole log. Never behind."""
        return await self._get(self._calls.last_from_leader(self.subject(kind)))

    async def read(self, kind: str, id: str, *, after_position: int = 0, upto: int | None = None) -> list[Recorded]:
        """An aggregate's commits, oldest first, with `after_position < position <= upto`."""
        subject = envelope.subject_of(kind, id, self.prefix)
        return [one async for batch in self._bounded(subject, after_position, upto) for one in batch]

    def scan(
        self, after: int = 0, *, kind: str | None = None, upto: int | None = None, batch: int = SCAN_BATCH
    ) -> AsyncGenerator[list[Recorded], None]:
        """Every commit after a position, in order, up to `upto` or to the newest at the time of the call."""
        return self._bounded(self.subject(kind), after, upto, batch)

    async def scan_last(self, kind: str = "*") -> AsyncGenerator[Recorded, None]:
        """The newest commit of every aggregate of a kind, once each, in order of position.

        Not resumable: raises LogUnavailable when the connection breaks.
        """
        try:
            async with self.feed(self.subject(kind), last_per_subject=True) as feed:
                left = feed.expected
                while left:
                    for message in (await feed.batch(SCAN_BATCH))[:left]:
                        left -= 1
                        yield self.decode(message)
        except (FeedBroken, NoAnswer) as error:
            raise LogUnavailable(f"reading the log broke off: {error}") from error

    async def follow(
        self,
        after: int,
        handler: Handler,
        *,
        kind: str | None = None,
        batch: int = SCAN_BATCH,
        gather: float = 0.0,
        turn: Turn | None = None,
    ) -> Follower:
        """Hand every commit after a position to `handler`, in order, now and in future, until `Follower.stop`.

        `gather`: seconds that a commit may wait for others, unless `Follower.hurry` is called. `turn` is awaited before
        what has gathered is handed over.
        """
        return Follower(self, after, handler, kind, batch, gather, turn)

    @asynccontextmanager
    async def feed(self, subject: str, *, after: int = 0, last_per_subject: bool = False) -> AsyncIterator[Feed]:
        """An open feed of stored messages. Raises FeedBroken, NoAnswer, LogUnavailable."""
        feed = Feed(self.nc, self._mux, self.stream, subject)
        self._feeds.add(feed)
        try:
            await feed.open(after=after, last_per_subject=last_per_subject)
            yield feed
        finally:
            self._feeds.discard(feed)
            await feed.close()

    def decode(self, message: Message) -> Recorded:
        return envelope.decode(message.position, message.subject, message.data, message.recorded_at)

    def subject_of(self, commit: Commit) -> str:
        return envelope.subject_of(commit.kind, commit.id, self.prefix)

    def subject(self, kind: str | None = None) -> str:
        """The subject filter for a kind of aggregate, or for the whole log."""
        return f"{self.prefix}.{kind}.*" if kind else f"{self.prefix}.>"

    async def _bounded(
        self, subject: str, after: int, upto: int | None, batch: int = SCAN_BATCH
    ) -> AsyncGenerator[list[Recorded], None]:
        head = await self.last_position() if upto is None else upto
        failures = 0
        while after < head:
            try:
                async with self.feed(subject, after=after) as feed:
                    pending = feed.expected
                    while pending or await self._leader_has(subject, after, head):
                        async with asyncio.timeout(None if pending else BEHIND_SECONDS):
                            messages = await feed.batch(batch)
                        wanted = [self.decode(message) for message in messages if after < message.position <= head]
                        if wanted:
                            failures = 0
                            after = wanted[-1].position
                            yield wanted
                        if messages[-1].position >= head:
                            return
                        pending = messages[-1].pending
                    return
            except (FeedBroken, NoAnswer, TimeoutError) as error:
                failures += 1
                if failures > SCAN_ATTEMPTS:
                    why = str(error) or "the server of the cluster that is read from is behind the others"
                    raise LogUnavailable(f"reading the log broke off after position {after}: {why}") from error
                await asyncio.sleep(SCAN_PAUSE_SECONDS * failures)

    async def _leader_has(self, subject: str, after: int, head: int) -> bool:
        """Whether a commit follows, whatever a feed says: the server of a cluster that serves it may be behind."""
        following = await self._calls.next_from_leader(subject, after)
        return following is not None and following.position <= head

    async def _get(self, request: Awaitable[Message | None]) -> Recorded | None:
        try:
            return self._decoded(await request)
        except NoAnswer as error:
            raise LogUnavailable(str(error)) from error

    def _decoded(self, message: Message | None) -> Recorded | None:
        return None if message is None else self.decode(message)

    def _disconnected(self) -> None:
        self._mux.disconnected()
        for feed in self._feeds:
            feed.break_off("the connection to NATS broke")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _hosts(servers: str | list[str]) -> str:
    """Server addresses for a message: without the credentials that a URL may carry."""
    urls = [servers] if isinstance(servers, str) else servers
    return ", ".join(url.rpartition("@")[2].rpartition("//")[2] for url in urls)
