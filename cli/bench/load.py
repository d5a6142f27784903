"""Load in a closed loop: a number of clients, each sending its next request when the last one is answered.

What is measured is what the clients see: the latency of every request, and how many were done in the time between the
first and the last. `Cost` puts the CPU time of the control plane beside it, and that of this process apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter, process_time

from cli.bench.figures import latency_figures
from cli.bench.http_client import Connection
from cli.bench.target import Target, checked


@dataclass
class Cost:
    """What a stretch of work took. `operations` and `latencies` are filled in by whoever did the work."""

    operations: int = 0
    seconds: float = 0.0
    system_cpu: float = 0.0
    own_cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        done = self.operations or len(self.latencies)
        figures = latency_figures(self.latencies) if self.latencies else {}
        return figures | {
            "per_s": done / self.seconds,
            "cpu_ms": self.system_cpu / done * 1000,
            "generator_cpu_ms": self.own_cpu / done * 1000,
        }


@asynccontextmanager
async def cost(target: Target) -> AsyncIterator[Cost]:
    """The time and the CPU of what happens inside."""
    spent = Cost()
    target.count_processes()
    system, own, began = target.cpu_seconds(), process_time(), perf_counter()
    yield spent
    spent.seconds = perf_counter() - began
    spent.own_cpu = process_time() - own
    spent.system_cpu = target.cpu_seconds() - system


async def send_all(target: Target, clients: int, requests: list[Iterator[bytes]], expect: int) -> Cost:
    """Every client sends the requests of its own iterator, one after another. Raises Stop on any other answer."""

    async def send(connection: Connection, mine: Iterator[bytes], spent: Cost) -> None:
        for raw in mine:
            answer = checked(await connection.request(raw), expect)
            spent.latencies.append(answer.seconds)

    async with connections(target, clients) as opened, cost(target) as spent:
        await asyncio.gather(*(send(one, mine, spent) for one, mine in zip(opened, requests, strict=True)))
    return spent


async def work_all(
    target: Target, clients: int, items: list[str], work: Callable[[Connection, str], Awaitable[float]]
) -> Cost:
    """Clients share the items; `work` does one item and returns its latency."""
    left = iter(items)

    async def take(connection: Connection, spent: Cost) -> None:
        for item in left:
            spent.latencies.append(await work(connection, item))

    async with connections(target, clients) as opened, cost(target) as spent:
        await asyncio.gather(*(take(one, spent) for one in opened))
    return spent


@asynccontextmanager
async def connections(target: Target, count: int) -> AsyncIterator[list[Connection]]:
    opened = await target.connect(count)
    try:
        yield opened
    finally:
        for one in opened:
            one.close()
