"""What a running control plane looks at beside its work, and tells at `up`'s terminal as well as in its log.

- the log, once after a start: whether every position is there. NATS drops a message whose bytes do not fit their
  checksum without a word, and a stream with such a hole looks whole until it is read;
- the disk of the data directory, every few seconds: whether there is room. Told once, until there is room again;
- the archive: that it can not be written, once, and that it is written again.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

from eventlog.errors import LogError
from eventlog.feed import FeedBroken
from eventlog.log import EventLog
from eventlog.mux import NoAnswer

DISK_SECONDS = 10.0
MIN_FREE_BYTES = 32 << 20
BATCH = 1000
PAUSE_SECONDS = 0.05  # after every batch: whoever works meanwhile comes first
AGAIN_SECONDS = 5.0

log_ = structlog.get_logger("control")


async def first_gap(log: EventLog) -> int | None:
    """The first position that is not there, of those that the log has now. Raises LogError, NoAnswer, FeedBroken."""
    last = await log.last_position()
    expected = 1
    async with log.feed(log.subject()) as feed:
        while expected <= last and (feed.expected or expected > 1):
            for message in await feed.batch(BATCH):
                if message.position != expected:
                    return expected
                expected += 1
                if message.pending == 0:
                    return None if expected > last else expected
            await asyncio.sleep(PAUSE_SECONDS)
    return None if expected > last else expected


async def watch_log(log: EventLog, archive: Path, say: Callable[[str], None]) -> None:
    """Look once. The process lives on: most of the log is still there, and the person who reads this decides."""
    while True:
        try:
            gap = await first_gap(log)
        except (LogError, NoAnswer, FeedBroken):
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        if gap is not None:
            what = f"position {gap} of the log is missing: its files were changed or damaged"
            log_.error(what, hint="see `chronova audit verify`; stop, and restore the log from its archive")
            say(f"WARNING {what}; stop, and `chronova audit restore {archive}` into a new data directory")
        return


async def watch_disk(data: Path, say: Callable[[str], None]) -> None:
    told = False
    while True:
        free = shutil.disk_usage(data).free
        if free < MIN_FREE_BYTES and not told:
            say(f"WARNING the disk of {data} is full ({free >> 20} MB free): changes are refused until there is room")
            log_.warning("the disk of the data directory is full", data=str(data), free=free)
        if free >= MIN_FREE_BYTES and told:
            say(f"there is room again on the disk of {data}")
        told = free < MIN_FREE_BYTES
        await asyncio.sleep(DISK_SECONDS)


def tell_of_archive(directory: Path, say: Callable[[str], None], trouble: str) -> None:
    """`trouble`: why nothing is archived, empty when it is again."""
    what = f"WARNING the log is not archived in {directory}: {trouble}; it is tried again"
    say(what if trouble else f"the log is archived again in {directory}")
