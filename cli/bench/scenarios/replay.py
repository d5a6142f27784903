"""replay: events per second of a raw read of the stream, a decoded one, a full rebuild, a proof, and the audit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter

from cli.bench.figures import Board
from cli.bench.histories import Log, filled
from cli.bench.plan import Plan
from eventlog.verify import ChainVerifier
from projections import replay

NAME = "replay"
BATCH = 1000


async def measure(plan: Plan, board: Board) -> None:
    events = plan.pick(100_000, 2_000)
    async with filled(plan, events) as made:
        kinds: dict[str, Callable[[Log], Awaitable[None]]] = {
            "limit: messages of the stream, undecoded": _raw,
            "commits, decoded": _decoded,
            "rebuild of the read models": _rebuild,
            "proof that the read models equal the log": _verify,
            "hash chain": _chain,
        }
        count = await _count_events(made)
        for run in range(plan.runs):
            for what, work in kinds.items():
                plan.say(f"run {run + 1}, {what}")
                began = perf_counter()
                await work(made)
                seconds = perf_counter() - began
                board.add(NAME, f"{count:,} events: {what}", {"per_s": count / seconds, "whole_s": seconds})


async def _count_events(made: Log) -> int:
    return sum([len(one.commit.events) async for batch in made.log.scan() for one in batch])


async def _raw(made: Log) -> None:
    async with made.log.feed(made.log.subject()) as feed:
        left = feed.expected
        while left > 0:
            left -= len(await feed.batch(BATCH))


async def _decoded(made: Log) -> None:
    async for _ in made.log.scan():
        pass


async def _rebuild(made: Log) -> None:
    await replay.rebuild(made.log, made.database("rebuilt"))


async def _verify(made: Log) -> None:
    differences = await replay.verify(made.log, made.database("rebuilt"))
    assert not differences, differences


async def _chain(made: Log) -> None:
    verifier = ChainVerifier()
    async with made.log.feed(made.log.subject()) as feed:
        left = feed.expected
        while left > 0:
            for message in await feed.batch(BATCH):
                left -= 1
                finding = verifier.check(message.position, message.subject, message.data)
                assert finding is None, finding
