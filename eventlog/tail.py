"""The newest commits, as they come: one per process, shared by everything in it that follows the log.

The order and completeness are the stream's: one feed runs from the position where the tail began. What this process
appended itself need not come back first: a commit that is known to be stored, and to be the very next one, is handed on
at once, and the feed's copy of it is left undecoded. A commit that is not the next one waits for those before it.

Each follower has an inbox. An inbox that is full is given up, so that a slow follower costs bounded memory; it reads
what it missed from the stream and then asks for another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from eventlog.envelope import Recorded
from eventlog.errors import LogUnavailable
from eventlog.feed import FeedBroken, Message
from eventlog.mux import NoAnswer

if TYPE_CHECKING:
    from eventlog.log import EventLog

BATCH = 1000
INBOX_COMMITS = 8192
INBOX_BYTES = 16 << 20
# Commits of our own that wait for earlier ones. The feed brings what is not kept.
MAX_HELD = 1024
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class InboxFull(Exception):
    """The inbox was given up: read what follows from the stream."""


class Inbox:
    """Commits after `start`, of one kind or of all, for one reader."""

    def __init__(self, start: int, kind: str | None) -> None:
        self.start = start
        self.kind = kind
        self.ended: Exception | None = None
        self._commits: deque[Recorded] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._commits)

    def put(self, recorded: Recorded) -> None:
        if self.ended is not None or (self.kind is not None and recorded.commit.kind != self.kind):
            return  # after a gap nothing may be taken
        self._commits.append(recorded)
        self._bytes += len(recorded.raw)
        if len(self._commits) > INBOX_COMMITS or self._bytes > INBOX_BYTES:
            self._commits.clear()
            self.end(InboxFull())
        self._wake.set()

    def end(self, error: Exception) -> None:
        """Nothing more comes, for this reason; what is in it can still be taken."""
        self.ended = error
        self._wake.set()

    async def filled(self) -> None:
        """Wait until there is something to take. Raises what the inbox ended with."""
        while not self._commits:
            if self.ended is not None:
                raise self.ended
            self._wake.clear()
            await self._wake.wait()

    def take(self, limit: int) -> list[Recorded]:
        """The next `limit` commits at most."""
        taken = [self._commits.popleft() for _ in range(min(limit, len(self._commits)))]
        self._bytes -= sum(len(one.raw) for one in taken)
        return taken


class Tail:
    """`position`: the newest commit that was handed on. Begins with the first inbox that is asked for."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._inboxes: set[Inbox] = set()
        self._held: dict[int, Recorded] = {}
        self._task: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()
        self.position = 0

    async def inbox(self, kind: str | None) -> Inbox:
        """An inbox for what comes from now on. Raises LogUnavailable."""
        async with self._beginning:
            if self._task is None or self._task.done():
                self.position = await self._log.last_position()
                self._held.clear()
                self._task = asyncio.create_task(self._run(), name="tail of the log")
        opened = Inbox(self.position, kind)
        self._inboxes.add(opened)
        return opened

    def give_back(self, inbox: Inbox) -> None:
        self._inboxes.discard(inbox)

    def appended(self, recorded: Recorded) -> None:
        """A commit of this process was stored."""
        if self._inboxes and recorded.position > self.position and len(self._held) < MAX_HELD:
            self._held[recorded.position] = recorded
            self._hand_on_held()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                before = self.position
                try:
                    await self._read_one_feed()
                except (FeedBroken, LogUnavailable, NoAnswer):
                    pause = FIRST_PAUSE_SECONDS if self.position > before else min(2 * pause, LONGEST_PAUSE_SECONDS)
                    await asyncio.sleep(pause)
        except Exception as error:  # a commit that can not be read: it ends everyone who would have got it
            for inbox in self._inboxes:
                inbox.end(error)

    async def _read_one_feed(self) -> None:
        async with self._log.feed(self._log.subject(), after=self.position) as feed:
            while True:
                for message in await feed.batch(BATCH):
                    self._arrived(message)

    def _arrived(self, message: Message) -> None:
        if message.position <= self.position:
            return
        recorded = self._held.pop(message.position, None)
        if recorded is None and self._inboxes:
            recorded = self._log.decode(message)
        if recorded is None:
            self.position = message.position
        else:
            self._hand_on(recorded)
        self._hand_on_held()

    def _hand_on_held(self) -> None:
        while (following := self._held.pop(self.position + 1, None)) is not None:
            self._hand_on(following)

    def _hand_on(self, recorded: Recorded) -> None:
        self.position = recorded.position
        for inbox in self._inboxes:
            inbox.put(recorded)
