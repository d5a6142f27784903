"""The log of a data directory, whether its system runs or not.

While `chronova up` runs on it, its NATS is used. Otherwise the directory is locked and an embedded NATS is started
for as long as the command needs it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli import keys, rundir
from cli.errors import Stop

if TYPE_CHECKING:
    from eventlog.log import EventLog

CONTROL_USER = "control"


@dataclass(frozen=True)
class Place:
    """The log, where the read models are, and whether a system runs on them."""

    log: EventLog
    database: str
    running: bool


@asynccontextmanager
async def open_place(data: Path, *, database: str | None = None, may_be_new: bool = False) -> AsyncIterator[Place]:
    """Raises Stop if there is no log in the directory (unless it may be a new one) or it can not be opened."""
    from eventlog.log import EventLog, LogError
    from eventlog.nats_server import EmbeddedNats, NatsServerFailed, NatsServerMissing

    note = rundir.running(data)
    default = f"sqlite:///{data}/read-models.db"
    try:
        if note is not None:
            user, password = (CONTROL_USER, keys.secret(data, f"nats-{CONTROL_USER}"))
            embedded = "nats-server" in note["pids"]
            log = await EventLog.open(
                note["nats"], user=user if embedded else None, password=password if embedded else None
            )
            try:
                yield Place(log, database or note["database"] or default, running=True)
            finally:
                await log.close()
            return
        if not (data / "nats" / "jetstream").is_dir() and not may_be_new:
            raise Stop(f"there is no log in {data}: name the directory with --data")
        lock = rundir.DataLock.take(data)
        try:
            with EmbeddedNats.start(data) as server:
                log = await EventLog.open(server.url)
                try:
                    yield Place(log, database or default, running=False)
                finally:
                    await log.close()
        finally:
            lock.release()
    except (NatsServerMissing, NatsServerFailed, LogError) as error:
        raise Stop(str(error)) from error
