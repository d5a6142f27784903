"""The projector: follows the log and keeps the read models equal to its fold.

Owns the writing of every table. While it writes a batch the next one gathers, so batches grow with the load; a commit
that somebody waits for is written at once. On SQLite it is written right here, a little at a time: that takes less than
handing it to a thread, and the two then fight for the interpreter. Everything that may wait (a lock, the disk,
PostgreSQL) runs in one thread of its own. Whoever waits for a position is told as soon as it is committed: in this
process directly, in others by core NATS.

Fails loudly: a commit that can not be folded stops it (`failed`), and the read model is then as old as it says. A
database that is away is tried again until it is back. A read model that is missing, of another schema version, or not
of this log is rebuilt before following starts; so is one whose file is removed or replaced while it is followed into.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from sqlalchemy.exc import DBAPIError

from eventlog.envelope import Recorded
from eventlog.errors import LogError, LogUnavailable
from eventlog.follower import Follower
from eventlog.log import EventLog
from projections import replay
from projections.database import ReadModelUnavailable, connect, name_of
from projections.file_watch import LOOK_SECONDS, FileWatch
from projections.rejections import RejectionFollower
from projections.swap import RebuildInProgress
from projections.waiting import HURRY, SUBJECT, Horizon, horizon, news, news_in
from projections.writer import Fenced, Writer

logger = logging.getLogger(__name__)

BATCH = 1000
# How long a commit waits for others to be written with it, as long as nobody waits for it: a transaction costs as much
# as the rows of a commit.
GATHER_SECONDS = 0.025
# The most commits that are written in one turn of the event loop: some 10 ms.
SMALL_BATCH = 100
# How long a start waits for a rebuild that another process is doing.
OTHER_REBUILD_SECONDS = 600.0
OTHER_REBUILD_PAUSE_SECONDS = 0.2
# How long the end of a process may take to write what the log has more than the tables.
CATCH_UP_SECONDS = 2.0
# How long a stop waits for the batch in hand; a database that hangs longer is left to itself.
STOP_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0


class _FileLost(Exception):
    """The read model's file is not the one that was opened any more."""


class Projector:
    """A running projector. Made by `start`."""

    def __init__(self, log: EventLog, url: str) -> None:
        self._log = log
        self._url = url
        self._engine = connect(url)
        self._writer = Writer(self._engine)
        self._file = FileWatch(url)
        self._lost = ""  # why the file can not be gone on with
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="projector")
        self._name = name_of(url)
        self._horizon: Horizon = horizon(self._name)
        self._follower: Follower | None = None
        self._writing = asyncio.Lock()  # the writer is one's at a time
        self._wanted = 0  # the newest position that somebody waits for
        self._hurry: Subscription | None = None
        self._rejections = RejectionFollower(log, self._engine, self._thread)
        self._task: asyncio.Task[None] | None = None
        # Done when the projector has stopped: with None after stop(), else with the error that it can not mend.
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(cls, log: EventLog, url: str, *, progress: Callable[[int, int], None] | None = None) -> Projector:
        """Follow `log` into the read model at `url`, building it first if it is not one of this log and version."""
        await _make_fit(log, url, progress)
        projector = cls(log, url)
        projector._horizon.local = True
        projector._horizon.restart(await projector._run_in_thread(projector._writer.load))
        projector._file.opened()
        projector._task = asyncio.create_task(projector._run(), name="projector")
        projector._task.add_done_callback(projector._finished)
        projector._rejections.start()
        projector._horizon.hurry = projector._be_quick
        projector._hurry = await log.nc.subscribe(HURRY, cb=projector._on_hurry)
        await projector._announce()
        return projector

    @property
    def position(self) -> int:
        return self._horizon.position

    def lag(self) -> int:
        """How many commits are known to wait."""
        return self._follower.lag() if self._follower is not None else 0

    async def catch_up(self) -> None:
        """What the log holds now is in the tables when this returns; given up when it lasts or NATS is away."""
        with contextlib.suppress(LogError, TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self._horizon.reached(await self._log.last_position(), CATCH_UP_SECONDS)

    async def stop(self) -> None:
        """Stop after the batch in hand, at the latest after STOP_SECONDS for each part."""
        self._horizon.local = False
        if self._hurry is not None:
            with contextlib.suppress(nats.errors.Error, OSError):  # the connection may be gone, and with it this
                await self._hurry.unsubscribe()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=STOP_SECONDS)
        await self._rejections.stop()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._run_in_thread(self._writer.close)
        except TimeoutError:
            logger.error("the read model's database does not answer; its transaction ends with this process")
            self._thread.shutdown(wait=False, cancel_futures=True)
            return
        self._thread.shutdown()
        self._engine.dispose()

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                if self._lost:
                    await self._rejections.stop()  # nobody may open the file before it is there again
                    await self._run_in_thread(self._let_go)
                    await _make_fit(self._log, self._url, None, self._lost)
                position = await self._run_in_thread(self._writer.load)
                if self._lost:
                    self._lost = ""
                    self._file.opened()
                    self._horizon.replaced()
                    self._rejections.start()
                self._horizon.advance(position)
                await self._announce()
                self._follower = await self._log.follow(position, self._handle, batch=BATCH, gather=GATHER_SECONDS)
                self._be_quick(self._wanted)
                try:
                    await self._until_lost(self._follower)
                finally:
                    await self._follower.stop()
            except _FileLost as lost:
                logger.warning("%s: building it anew from the log", lost)
                self._lost = str(lost)
            except Fenced as fenced:
                logger.info("following again: %s", fenced)
                pause = FIRST_PAUSE_SECONDS
            except (DBAPIError, self._writer.driver_error, LogUnavailable, ReadModelUnavailable) as error:
                logger.warning("the read model can not be written, trying again in %.2f s: %s", pause, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _until_lost(self, follower: Follower) -> None:
        """Until the follower fails, or the tables are not its own. Raises what it failed with, Fenced or _FileLost."""
        while (found := self._file.look()) == "same":
            await asyncio.wait([follower.failed], timeout=LOOK_SECONDS)
            if follower.failed.done():
                follower.failed.result()
            async with self._writing:
                if self._writer.is_sqlite:
                    self._writer.must_be_in_place()
                else:
                    await self._run_in_thread(self._writer.must_be_in_place)
        raise _FileLost(f"the file of the read model is {found}")

    def _be_quick(self, position: int) -> None:
        """Somebody waits for this position: it is written without gathering, as soon as it arrives."""
        self._wanted = max(self._wanted, position)
        if self._follower is not None and self._wanted > self._horizon.position:
            self._follower.hurry()

    async def _on_hurry(self, message: Msg) -> None:
        wanted = news_in(message.data, self._name)
        if wanted is None:
            return
        if wanted.position <= self._horizon.position:
            await self._announce()  # whoever asks has not heard of it
        else:
            self._be_quick(wanted.position)

    async def _announce(self) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            # Lost news is no harm: who waits for it elsewhere looks for itself.
            await self._log.nc.publish(SUBJECT, news(self._name, self._horizon.position, self._file.identity))

    def _let_go(self) -> None:
        """Leave the lost file and clear its place."""
        self._file.clear()
        self._writer.close()
        self._engine.dispose()

    async def _handle(self, batch: list[Recorded]) -> None:
        most = SMALL_BATCH if self._writer.is_sqlite else BATCH
        for first in range(0, len(batch), most):
            if first:
                await asyncio.sleep(0)
            await self._write(batch[first : first + most])

    async def _write(self, batch: list[Recorded]) -> None:
        async with self._writing:
            await self._apply(batch)

    async def _apply(self, batch: list[Recorded]) -> None:
        position = self._writer.apply_at_once(batch) if self._writer.is_sqlite else None
        if position is None:
            position = await self._run_in_thread(lambda: self._writer.apply(batch))
        self._horizon.advance(position)
        self._be_quick(self._wanted)
        await self._announce()
        if self._writer.checkpoint_due:
            await self._run_in_thread(self._writer.checkpoint)

    async def _run_in_thread(self, work: Callable[[], int | None]) -> int:
        # Shielded: a cancelled batch is still written to its end, so that stop() never leaves a transaction open.
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        return await asyncio.shield(future) or 0

    def _finished(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            self.failed.set_result(None)
        else:
            logger.error("the projector stopped at position %d", self.position, exc_info=error)
            self.failed.set_exception(error)


async def _make_fit(log: EventLog, url: str, progress: Callable[[int, int], None] | None, reason: str = "") -> None:
    """Rebuild the read model if it can not be continued (or for `reason`), or wait for whoever is doing that."""
    deadline = asyncio.get_running_loop().time() + OTHER_REBUILD_SECONDS
    while reason := reason or await replay.unfit(log, url):
        logger.info("building the read model: %s", reason)
        try:
            await replay.rebuild(log, url, progress)
            return
        except RebuildInProgress:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(OTHER_REBUILD_PAUSE_SECONDS)
            reason = ""
