"""accept: POST action to 202 with 1, 16 and 64 clients, beside the raw publishes of the same run.

`lock` and `unlock` are accepted and done in one commit: the acceptance alone. `stop` is accepted while the work that
it causes (orders, reports, the agents) runs on the same cores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter

from cli.bench import fleet
from cli.bench.figures import Board
from cli.bench.limit import TYPICAL_BYTES, limit_stream, publish
from cli.bench.load import Cost, send_all
from cli.bench.nats_client import Publisher
from cli.bench.plan import Plan
from cli.bench.target import Target
from cli.bench.watcher import Watcher, watching

NAME = "accept"
CLIENTS = (1, 16, 64)


async def measure(plan: Plan, board: Board) -> None:
    async with Target.start(sync=plan.sync, directory=plan.directory) as target, watching(target) as watcher:
        plan.say("creating servers")
        ids = await fleet.create(target, watcher, plan.pick(640, 64))
        publisher = await Publisher.connect(target.nats_url, target.nats_user, target.nats_password)
        try:
            async with limit_stream(watcher.log):
                await locks(target, ids, 16, plan.pick(500, 20))
                await stop_or_start(target, watcher, ids[:32], 16, "os-stop")
                await stop_or_start(target, watcher, ids[:32], 16, "os-start")
                for run in range(plan.runs):
                    for clients in CLIENTS:
                        plan.say(f"run {run + 1}, {clients} clients")
                        await _one_run(plan, board, target, watcher, publisher, ids, clients)
        finally:
            publisher.close()


async def _one_run(
    plan: Plan, board: Board, target: Target, watcher: Watcher, publisher: Publisher, ids: list[str], clients: int
) -> None:
    names = f"{clients} client{'s' if clients > 1 else ''}"
    newest = await watcher.log.newest("server")
    size = len(newest.raw) if newest else TYPICAL_BYTES
    count = plan.pick({1: 1000, 16: 4000, 64: 8000}, {1: 50, 16: 160, 64: 320})[clients]
    limit = await publish(publisher, size, count, clients)
    board.add(NAME, f"limit: raw publish, {names}", limit | {"message_kib": size / 1024})
    spent = await locks(target, ids, clients, count)
    board.add(NAME, f"lock/unlock, {names}", spent.figures() | {"of_limit": spent.figures()["per_s"] / limit["per_s"]})
    chosen = ids[: plan.pick({1: 160, 16: 640, 64: 640}, {1: 4, 16: 32, 64: 32})[clients]]
    for action in ("os-stop", "os-start"):
        accepted, done_per_second = await stop_or_start(target, watcher, chosen, clients, action)
        figures = accepted.figures()
        figures |= {"of_limit": figures["per_s"] / limit["per_s"], "done_per_s": done_per_second}
        board.add(NAME, f"{action.removeprefix('os-')}, {names}", figures)


async def locks(target: Target, ids: list[str], clients: int, count: int) -> Cost:
    """About `count` locks and unlocks, each client on servers of its own, so that each changes something."""

    def requests(mine: list[str]) -> Iterator[bytes]:
        round_trip = [target.action(one, action) for action in ("lock", "unlock") for one in mine]
        for _ in range(max(1, count // (clients * len(round_trip)))):
            yield from round_trip

    return await send_all(target, clients, [requests(ids[number::clients][:4]) for number in range(clients)], 202)


async def stop_or_start(
    target: Target, watcher: Watcher, ids: list[str], clients: int, action: str
) -> tuple[Cost, float]:
    """The cost of accepting the action on each server; then wait for all, and how many were done per second."""
    ends = [watcher.expect(one) for one in ids]
    began = perf_counter()
    requests = [iter([target.action(one, action) for one in ids[number::clients]]) for number in range(clients)]
    spent = await send_all(target, clients, requests, 202)
    ended = await asyncio.gather(*(watcher.ended(one) for one in ends))
    return spent, len(ids) / (max(ended) - began)
