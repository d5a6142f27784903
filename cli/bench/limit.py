"""The limit beside an acceptance: raw acknowledged publishes of the same size to the same NATS in the same run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import process_time

from nats.js.api import StorageType, StreamConfig

from cli.bench.figures import latency_figures
from cli.bench.nats_client import STREAM, SUBJECT, Publisher
from eventlog.log import EventLog

# A commit of a lock, when nothing else is known.
TYPICAL_BYTES = 1800


@asynccontextmanager
async def limit_stream(log: EventLog) -> AsyncIterator[None]:
    """A stream beside the log, stored and synced like it, gone afterwards."""
    await log.js.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECT], storage=StorageType.FILE, duplicate_window=1))
    try:
        yield
    finally:
        await log.js.delete_stream(STREAM)


async def publish(publisher: Publisher, size: int, count: int, window: int) -> dict[str, float]:
    """The figures of `count` publishes of `size` bytes with `window` in flight."""
    own = process_time()
    seconds = await publisher.publish(b"x" * size, count, window)
    return latency_figures(publisher.latencies) | {
        "per_s": count / seconds,
        "generator_cpu_ms": (process_time() - own) / count * 1000,
    }
