"""append: raw acknowledged publishes with every fsync mode: what the disk and nats-server allow at most."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from cli.bench.figures import Board
from cli.bench.limit import TYPICAL_BYTES, limit_stream, publish
from cli.bench.nats_client import Publisher
from cli.bench.plan import Plan
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats

NAME = "append"
MODES: dict[str, str | None] = {"always": "always", "10ms": "10ms", "2 min (NATS's default)": None}


async def measure(plan: Plan, board: Board) -> None:
    for mode, interval in MODES.items():
        with (
            TemporaryDirectory(prefix="chronova-bench-", dir=plan.directory) as directory,
            EmbeddedNats.start(Path(directory), sync_interval=interval) as server,
        ):
            await _measure_mode(plan, board, server.url, mode)


async def _measure_mode(plan: Plan, board: Board, url: str, mode: str) -> None:
    log = await EventLog.open(url, name="bench")
    publisher = await Publisher.connect(url, None, None)
    try:
        async with limit_stream(log):
            await publish(publisher, TYPICAL_BYTES, plan.pick(2000, 100), 16)
            for run in range(plan.runs):
                for window in (1, 16, 64):
                    plan.say(f"fsync {mode}, run {run + 1}, {window} in flight")
                    count = plan.pick(2000 * window if window < 16 else 10_000, 200)
                    figures = await publish(publisher, TYPICAL_BYTES, count, window)
                    board.add(NAME, f"fsync {mode}, {window} in flight", figures)
    finally:
        publisher.close()
        await log.close()
