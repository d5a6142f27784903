"""What is told at `up`'s terminal: a log with a hole, a disk without room."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cli import watching
from commands.appending import unavailable
from eventlog.archiver import Archiver
from eventlog.errors import LogUnavailable
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats
from tests.projections_samples import append_all, lively

NO_ROOM = Path("/proc")  # where there never is any


async def test_a_hole_in_the_log_is_found_and_the_log_is_to_blame(tmp_path: Path) -> None:
    with EmbeddedNats.start(tmp_path) as server:
        log = await EventLog.open(server.url)
        assert await watching.first_gap(log) is None
        await append_all(log, lively())
        assert await watching.first_gap(log) is None
        await log.close()
    block = next(tmp_path.glob("nats/jetstream/*/streams/*/msgs/*.blk"))
    content = bytearray(block.read_bytes())
    place = content.index(b'"cid"', len(content) // 3) + 10
    content[place : place + 4] = b"\0\0\0\0"
    block.write_bytes(content)
    said: list[str] = []
    with EmbeddedNats.start(tmp_path) as server, capture_logs() as logged:
        log = await EventLog.open(server.url)
        await asyncio.wait_for(watching.watch_log(log, tmp_path / "archive", said.append), 60)
        gap = await watching.first_gap(log)
        archiver = Archiver(log, tmp_path / "archive")
        async with asyncio.timeout(60):
            while not [entry for entry in logged if entry["event"] == "the log is not archived"]:
                await asyncio.sleep(0.05)
        await archiver.stop()
        await log.close()
    assert gap is not None
    assert [line for line in said if f"position {gap} of the log is missing" in line and "audit restore" in line]
    assert [entry for entry in logged if f"position {gap} of the log is missing" in str(entry.get("error"))]


async def test_a_full_disk_is_named_and_told_once(event_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    error = LogUnavailable("no answer")
    assert "does not answer" in str(unavailable(error, event_log))
    event_log.disk = NO_ROOM
    assert "disk of the data directory is full" in str(unavailable(error, event_log))
    monkeypatch.setattr(watching, "DISK_SECONDS", 0.01)
    said: list[str] = []
    task = asyncio.create_task(watching.watch_disk(NO_ROOM, said.append))
    async with asyncio.timeout(60):
        while not said:
            await asyncio.sleep(0.01)
    await asyncio.wait([task], timeout=0.2)  # in which it looks again
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(said) == 1
    assert "is full" in said[0]


def test_a_log_without_room_does_not_end_what_it_tells_of() -> None:
    program = (
        "import sys, structlog; from cli.logging import set_up; sys.stderr = open('/dev/full', 'w', buffering=1)\n"
        "set_up('info', 'control'); structlog.get_logger('x').warning('told'); print('goes on'); sys.stdout.flush()\n"
        "import os; os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr
