"""kill -9 of a projector at any instant: the next one goes on, and the rows equal the fold of the log."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process

import pytest

from eventlog.log import EventLog
from projections import replay
from projections.projector import Projector
from projections.read_model import ReadModel
from tests.nats_fixtures import LogPlace
from tests.projections_samples import World, append_all

PROJECT = """
import asyncio, sys
from eventlog.log import EventLog
from projections import replay
from projections.projector import Projector

async def main(what, nats, stream, prefix, database):
    log = await EventLog.open(nats, stream=stream, prefix=prefix)
    print("begin", flush=True)
    if what == "rebuild":
        while True:
            await replay.rebuild(log, database)
    projector = await Projector.start(log, database)
    await projector.failed

asyncio.run(main(*sys.argv[1:]))
"""


async def start(what: str, place: LogPlace, database: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROJECT, what, place.url, place.stream, place.prefix, database, stdout=PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"begin\n"
    return process


@pytest.mark.parametrize("what", ["follow", "rebuild"])
async def test_nothing_is_lost_or_done_twice(
    what: str, event_log: EventLog, log_place: LogPlace, database_url: str
) -> None:
    world = World()
    for round in range(3):
        before = len(world.log)
        for number in range(15):
            id = world.active(f"s{round}-{number}")
            world.do(id, "stop")
            world.step(id)
        process = await start(what, log_place, database_url)
        writing = asyncio.create_task(append_all(event_log, world, start=before))
        await asyncio.sleep(0.05 + 0.07 * round)  # the instant of the kill: a different one in each round
        process.kill()
        await asyncio.wait_for(process.wait(), 60)
        await writing
    projector = await Projector.start(event_log, database_url)
    read = await ReadModel.open(database_url)
    assert await read.wait_for(len(world.log), 60)
    assert await replay.verify(event_log, database_url) == []
    await read.close()
    await projector.stop()
