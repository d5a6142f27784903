"""read: list and show, servers and their actions, with 100, 1,000 and 10,000 servers, by 1 and by 8 clients."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from cli.bench import fleet
from cli.bench.figures import Board
from cli.bench.load import send_all
from cli.bench.plan import Plan
from cli.bench.target import Target
from cli.bench.watcher import Watcher, watching

NAME = "read"
CLIENTS = (1, 8)
SAMPLE = 200


async def measure(plan: Plan, board: Board) -> None:
    async with Target.start(sync=plan.sync, directory=plan.directory) as target, watching(target) as watcher:
        ids: list[str] = []
        for size in plan.pick((100, 1_000, 10_000), (20,)):
            plan.say(f"creating servers up to {size}")
            ids += await fleet.create(target, watcher, size - len(ids))
            await measure_reads(plan, board, NAME, target, ids, f"{len(ids):,} servers: ")
            await _some_history(target, watcher, ids[:8])


async def _some_history(target: Target, watcher: Watcher, ids: list[str]) -> None:
    for action in ("os-stop", "os-start"):
        await fleet.act_measured(target, watcher, ids, 8, action)


async def measure_reads(plan: Plan, board: Board, scenario: str, target: Target, ids: list[str], prefix: str) -> None:
    """The reads of a fleet of this size."""
    base = "/compute/v2.1/servers"
    step = max(1, len(ids) // SAMPLE)
    sample = ids[::step]
    actions = await target.get(f"{base}/{sample[0]}/os-instance-actions")
    request_id = actions["instanceActions"][0]["request_id"]
    listing = target.request("GET", f"{base}/detail?limit=1000")
    shown = len(json.loads((await target.call(listing)).body)["servers"])
    kinds: dict[str, list[bytes]] = {
        f"list {shown} in detail": [listing],
        "show": [target.request("GET", f"{base}/{one}") for one in sample],
        "action list": [target.request("GET", f"{base}/{one}/os-instance-actions") for one in sample],
        "action show": [target.request("GET", f"{base}/{sample[0]}/os-instance-actions/{request_id}")],
    }
    for run in range(plan.runs + 1):
        for (what, requests), clients in itertools.product(kinds.items(), CLIENTS):
            plan.say(f"{len(ids)} servers, {f'run {run}' if run else 'warm-up'}, {what}, {clients} clients")
            each = plan.pick(_each(what, shown, clients), 4)
            streams = [_around(requests, number, each) for number in range(clients)]
            spent = await send_all(target, clients, streams, 200)
            if run:
                names = f"{clients} client{'s' if clients > 1 else ''}"
                board.add(scenario, f"{prefix}{what}, {names}", spent.figures())


def _each(what: str, shown: int, clients: int) -> int:
    """How many requests each client sends: a second's worth or so."""
    total = max(20, 10_000 // shown) if what.startswith("list") else 1_000
    return max(4, total // clients)


def _around(requests: list[bytes], start: int, count: int) -> Iterator[bytes]:
    return itertools.islice(
        itertools.cycle(requests[start % len(requests) :] + requests[: start % len(requests)]), count
    )
