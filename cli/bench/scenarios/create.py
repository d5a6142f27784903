"""create: POST /servers until ACTIVE, and DELETE until gone, with 1 and 16 clients."""

from __future__ import annotations

from cli.bench import fleet
from cli.bench.figures import Board
from cli.bench.plan import Plan
from cli.bench.scenarios.lifecycle import until_done
from cli.bench.target import Target
from cli.bench.watcher import watching

NAME = "create"


async def measure(plan: Plan, board: Board) -> None:
    async with Target.start(sync=plan.sync, directory=plan.directory) as target, watching(target) as watcher:
        warm = await fleet.create(target, watcher, plan.pick(64, 8))
        await fleet.delete_measured(target, watcher, warm, 16)
        for run in range(plan.runs):
            for clients, count in ((1, plan.pick(100, 4)), (16, plan.pick(400, 16))):
                names = f"{clients} client{'s' if clients > 1 else ''}"
                plan.say(f"run {run + 1}, {names}")
                ids, accepted, spent = await fleet.create_measured(target, watcher, count, clients)
                board.add(NAME, f"create to ACTIVE, {names}", until_done(accepted, spent))
                gone = await fleet.delete_measured(target, watcher, ids, clients)
                board.add(NAME, f"delete to gone, {names}", until_done(*gone))
