"""Keeps a copy of the log beside it, in segments (`eventlog.segments`), from which a lost stream is restored.

Every few seconds it reads what the log has more than the archive and writes it, each commit checked against the chain
first. It holds nothing that is not on the disk: killed anywhere, it goes on after the last whole line. It never leaves
a gap: positions follow each other or it stops, and when the archive knows a commit that the log does not have, it
stops too, for then the log has lost something (`ArchiveForeign`) and the archive is what is left.

One archiver writes to a directory (flock); others wait for it. What it can not write for now (a full disk, NATS away)
it tries again, and tells when that begins and ends. A directory that is moved away meanwhile is told, too, and it goes
on in the place that it was given, as a start does.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from eventlog import archive
from eventlog.archive import OPEN, ArchiveDamaged, Entry
from eventlog.errors import LogError, LogUnavailable
from eventlog.feed import FeedBroken
from eventlog.log import EventLog
from eventlog.mux import NoAnswer
from eventlog.segments import SEGMENT_COMMITS, Segment, sync_directory

log_ = structlog.get_logger(__name__)

PERIOD_SECONDS = 5.0
BATCH = 50  # commits written in one go: how long others on the event loop may have to wait for it
LOCK = "lock"
RETRY_SECONDS = 30.0
STOP_SECONDS = 3.0
NOT_NOW = (OSError, LogError, NoAnswer, FeedBroken)
LOG_AWAY = (LogUnavailable, NoAnswer, FeedBroken)


class ArchiveMoved(OSError):
    """The directory that is written to is no longer the one of that name."""


class ArchiveForeign(LogError):
    """The archive holds what the log does not: it is of another log, or this log lost commits."""


class LogHole(LogError):
    """The log does not have a position that it once gave: its files were changed or damaged."""

    def __init__(self, position: int) -> None:
        super().__init__(
            f"position {position} of the log is missing: the log's files were changed or damaged, its archive is whole "
            "up to there; run `chronova audit verify`, and restore the log from the archive"
        )


class Archiver:
    """A task that archives. `position` is the last one that is in the archive, 0 before the first look.

    `failed` ends with the error of a task that can not go on. `changed` hears why nothing is archived, once, and an
    empty text when something is again; that the log does not answer keeps nothing from the archive.
    """

    def __init__(
        self,
        log: EventLog,
        directory: Path,
        period: float = PERIOD_SECONDS,
        segment_commits: int = SEGMENT_COMMITS,
        changed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.position = 0
        self._changed = changed
        self._trouble = ""
        self._log = log
        self._directory = directory
        self._period = period
        self._segment_commits = segment_commits
        self._segment: Segment | None = None
        self._lock = -1
        self._rotation: asyncio.Task[None] | None = None  # the last one
        self._task = self.failed = asyncio.create_task(self._run(), name="archive")

    async def stop(self) -> None:
        """Archive what there still is, if that goes quickly, and end."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._rotated()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                if self._lock >= 0:
                    self._must_be_in_place()
                    await self._catch_up()
        except (TimeoutError, *NOT_NOW) as error:
            log_.warning("the archive is left behind the log", position=self.position, error=str(error))
        await self._rotated()
        self._put_down()
        self._unlock()

    async def _run(self) -> None:
        """The boundary of the archive: the system lives on without it, and says so."""
        waits = False
        while True:
            pause = self._period
            try:
                if self._locked():
                    await self._catch_up()
                    self._note("")
                elif waits:  # for longer than the one of an earlier start needs to end
                    self._note("another process archives a log there")
                waits = True
            except NOT_NOW as error:
                log_.error("the log is not archived", directory=str(self._directory), error=str(error))
                if not isinstance(error, LOG_AWAY):
                    self._note(str(error))
                self._put_down()
                pause = max(RETRY_SECONDS, self._period) if isinstance(error, LogError) else self._period
            await asyncio.sleep(pause)

    def _note(self, trouble: str) -> None:
        if bool(trouble) != bool(self._trouble):
            self._changed(trouble)
        self._trouble = trouble

    def _locked(self) -> bool:
        if self._lock >= 0:
            self._must_be_in_place()
            return True
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _must_be_in_place(self) -> None:
        """Let go of a directory that is not there any more under its name. Raises `ArchiveMoved` for it."""
        with suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.stat(self._directory / LOCK), os.fstat(self._lock)):
                return
        self._put_down()
        self._unlock()
        raise ArchiveMoved(
            "it was moved away or replaced while it was in use; what the log has more is copied there anew"
        )

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _catch_up(self) -> None:
        if self._segment is None:
            self._segment = await asyncio.to_thread(self._take_up)
            await self._must_be_of_this_log()
        head = await self._log.last_position()
        if head < self._segment.last:
            raise ArchiveForeign(f"the log ends at {head}, its archive at {self._segment.last}: the log lost commits")
        self.position = self._segment.last
        if head == self.position:
            return
        async with self._log.feed(self._log.subject(), after=self._segment.last) as feed:
            while self._segment.last < head:
                for message in await feed.batch(BATCH):
                    if message.position != self._segment.next:
                        raise LogHole(self._segment.next)
                    raw = msgspec.Raw(message.data)
                    self._segment.add(Entry(message.position, message.subject, message.recorded_at, raw))
                    if self._segment.is_full(self._segment_commits):
                        self._rotation = asyncio.create_task(self._rotate(self._segment), name="archive-rotation")
                        await asyncio.shield(self._rotation)
        await asyncio.to_thread(self._segment.sync)
        self.position = self._segment.last

    async def _rotate(self, full: Segment) -> None:
        """Go on with the next segment. A thread closes the full one, which no cancelling stops: see it through."""
        try:
            self._segment = await asyncio.to_thread(self._next, full)
        except NOT_NOW:
            self._put_down()
            raise

    async def _rotated(self) -> None:
        """Wait until no thread is at a segment."""
        if self._rotation is not None:
            await asyncio.gather(self._rotation, return_exceptions=True)

    def _take_up(self) -> Segment:
        """The segment to write to: the one that was left open, or one after the last."""
        stream, prefix = self._log.stream, self._log.prefix
        try:
            paths = archive.segments_of(self._directory)
        except ArchiveDamaged:
            if any(self._directory.glob("*.jsonl")):
                raise
            return self._begin(1, "")
        left = paths.pop() if paths[-1].suffix == OPEN else None
        previous, last = "", 0
        if paths:
            trailer = archive.trailer_of(paths[-1])
            previous, last = trailer.sha256, trailer.last
        if left is None:
            return self._begin(last + 1, previous)
        if int(left.stem) != last + 1:
            raise ArchiveDamaged(last + 1, f"{left.name} does not follow position {last}")
        return Segment.take_up(left, stream, prefix, previous)

    def _begin(self, first: int, previous: str) -> Segment:
        segment = Segment.begin(self._directory, first, self._log.stream, self._log.prefix, previous)
        sync_directory(self._directory)
        return segment

    def _next(self, segment: Segment) -> Segment:
        return self._begin(segment.next, segment.close())

    async def _must_be_of_this_log(self) -> None:
        """The newest commit of the archive is in the log, at its position, byte for byte."""
        assert self._segment is not None
        last = self._segment.last
        if not last:
            return
        newest = await asyncio.to_thread(archive.newest, self._directory)
        stored = await self._log.at(last)
        if stored is None or newest is None or stored.raw != bytes(newest.message):
            raise ArchiveForeign(
                f"position {last} of the archive in {self._directory} is not in this log: the log lost commits, or the "
                "archive is of another one. Restore the log from it, or move it away"
            )

    def _put_down(self) -> None:
        if self._segment is not None:
            segment, self._segment = self._segment, None
            try:
                segment.leave()
            except OSError as error:
                log_.error("the open segment was not written to the end", error=str(error))
