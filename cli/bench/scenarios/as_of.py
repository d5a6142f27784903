"""as-of: a server's state at a past position, for short and long histories in small and large logs."""

from __future__ import annotations

import random
from time import perf_counter, process_time

from cli.bench.figures import Board, latency_figures
from cli.bench.histories import Log, filled
from cli.bench.plan import Plan
from projections import replay
from projections.as_of import server_at
from projections.projector import Projector
from projections.read_model import ReadModel

NAME = "as-of"
LENGTHS = (10, 100, 1_000)


async def measure(plan: Plan, board: Board) -> None:
    for events in plan.pick((10_000, 100_000, 1_000_000), (3_000,)):
        async with filled(plan, events, long_lived=LENGTHS) as made:
            plan.say(f"{events:,} events: building the read model")
            await replay.rebuild(made.log, made.database("read"))
            projector = await Projector.start(made.log, made.database("read"))
            read = await ReadModel.open(made.database("read"))
            try:
                for run in range(plan.runs + 1):
                    plan.say(f"{events:,} events, {f'run {run}' if run else 'warm-up'}")
                    for length, server_id in made.long_lived.items():
                        figures = await _ask(plan, made, read, server_id)
                        if run:
                            board.add(NAME, f"log of {events:,} events, server of {length:,}", figures)
            finally:
                await read.close()
                await projector.stop()


async def _ask(plan: Plan, made: Log, read: ReadModel, server_id: str) -> dict[str, float]:
    """Any position from the server's birth on, each as likely: the same ones in every run."""
    commits = await made.log.read("server", server_id)
    chance = random.Random(length := len(commits))
    head, count = read.position, plan.pick(500, 20)
    positions = [chance.randint(commits[0].position, head) for _ in range(count)]
    latencies, own = [], process_time()
    for position in positions:
        began = perf_counter()
        found = await server_at(read, made.log, server_id, position)
        latencies.append(perf_counter() - began)
        assert found is not None, f"none of {length} commits is at or before {position}"
    return latency_figures(latencies) | {"cpu_ms": (process_time() - own) / count * 1000}
