"""The log of a data directory, whether its system runs or not.

While `chronova up` runs on it, its NATS is used. Otherwise the directory is locked, and the log is the one at `--nats`
or else where the last start had it: on a NATS of its own, which has to answer, or in the directory, for which an
embedded NATS is started for as long as the command needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import keys, preflight, rundir
from cli.errors import Stop
from cli.log_access import LogAccess

if TYPE_CHECKING:
    from eventlog.log import EventLog

CONTROL_USER = "control"


@dataclass(frozen=True)
class Place:
    """The log, where the read models are, and whether a system runs on them.

    `apart`: the log is on a NATS that is not chronova's own, so that roles may follow it of which nothing is noted.
    """

    log: EventLog
    database: str
    running: bool
    apart: bool


@asynccontextmanager
async def open_place(
    data: Path, access: LogAccess, *, database: str | None = None, may_be_new: bool = False
) -> AsyncIterator[Place]:
    """Raises Stop if there is no log there (unless it may be a new one) or it can not be opened."""
    from eventlog.errors import LogError
    from eventlog.nats_server import NatsServerFailed, NatsServerMissing

    note = rundir.running(data)
    try:
        opened = _of_running(data, note, access) if note is not None else _of_stopped(data, access, may_be_new)
        async with opened as (log, apart):
            noted = (note or rundir.last_log(data)).get("database")
            default = noted or f"sqlite:///{data}/read-models.db"
            yield Place(log, database or default, running=note is not None, apart=apart)
    except (NatsServerMissing, NatsServerFailed, LogError) as error:
        raise Stop(str(error)) from error


@asynccontextmanager
async def _of_running(data: Path, note: dict[str, Any], access: LogAccess) -> AsyncIterator[tuple[EventLog, bool]]:
    embedded = "nats-server" in note["pids"]
    if access.servers and set(access.servers) != set(note["nats"]):
        raise Stop(f"chronova runs on {data} with another log than --nats names: stop it first, or leave --nats out")
    if embedded:
        access = LogAccess((), CONTROL_USER, keys.secret(data, f"nats-{CONTROL_USER}"))
    async with _connected(tuple(note["nats"]), access) as log:
        yield log, not embedded


@asynccontextmanager
async def _of_stopped(data: Path, access: LogAccess, may_be_new: bool) -> AsyncIterator[tuple[EventLog, bool]]:
    from eventlog.nats_server import EmbeddedNats

    servers = access.servers or tuple(rundir.last_log(data).get("nats", ()))
    if not may_be_new:
        _must_be_there(data if servers else data / "nats" / "jetstream", data)
    if servers:
        hint = (
            "mend --nats"
            if access.servers
            else f"name another with --nats (the last start on {data} had its log there)"
        )
        await asyncio.to_thread(preflight.nats_must_answer, servers, hint)
    lock = rundir.DataLock.take(data)
    try:
        if servers:
            async with _connected(servers, access, may_be_new=may_be_new) as log:
                yield log, True
            return
        with EmbeddedNats.start(data) as server:
            async with _connected((server.url,), LogAccess(), may_be_new=True) as log:
                yield log, False
    finally:
        lock.release()


def _must_be_there(folder: Path, data: Path) -> None:
    if not folder.is_dir():
        raise Stop(f"there is no log in {data}: name the directory with --data")


@asynccontextmanager
async def _connected(
    servers: tuple[str, ...], access: LogAccess, *, may_be_new: bool = False
) -> AsyncIterator[EventLog]:
    from eventlog.log import EventLog

    log = await EventLog.open(list(servers), user=access.user, password=access.password, create=may_be_new)
    try:
        yield log
    finally:
        await log.close()
