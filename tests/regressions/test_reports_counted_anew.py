"""Reports reach the conductor also when nats-server lost count of their stream.

Seen after kill -9 of nats-server: the stream, empty at that moment, counted from one again, and the conductor's
consumer waited for the numbers after those it had had. Every order was done and every server kept waiting for it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

from commands.streams import REPORTS
from eventlog.nats_server import EmbeddedNats
from tests.system import System

MANY = 50  # more than the stream gets after it was emptied


async def test_reports_arrive_when_the_stream_counts_from_one_again(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        for _ in range(MANY):
            await system.log.js.publish(f"reports.host-1.{server.id}", b"not a report")
        await system.until(lambda: system.conductor.reports.counts["broken"] >= MANY)
        await system.stop_agents()
        os.kill(own_nats.pid, signal.SIGKILL)
        await asyncio.to_thread(own_nats.stop)
        (messages,) = own_nats.directory.glob(f"jetstream/*/streams/{REPORTS}/msgs")
        shutil.rmtree(messages)
        await asyncio.to_thread(own_nats.restart)
        await system.until(lambda: system.log.nc.is_connected)
        await system.start_agents()
        assert (await system.do("stop", server.id)).vm_state == "stopped"
