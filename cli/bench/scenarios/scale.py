"""scale: acceptance and reads again with more servers and more hosts: their cost must stay flat."""

from __future__ import annotations

from cli.bench import fleet
from cli.bench.figures import Board
from cli.bench.plan import Plan
from cli.bench.scenarios.accept import locks, stop_or_start
from cli.bench.scenarios.read import measure_reads
from cli.bench.target import Target
from cli.bench.watcher import watching

NAME = "scale"
SIZES = ((100, 10), (1_000, 100), (10_000, 1_000))


async def measure(plan: Plan, board: Board) -> None:
    for servers, hosts in plan.pick(SIZES, ((20, 3),)):
        plan.say(f"starting {hosts} hosts")
        async with Target.start(sync=plan.sync, directory=plan.directory, hosts=hosts) as target:
            name = f"{servers:,} servers on {hosts:,} hosts"
            board.add(NAME, f"{name}: start to ready", {"ready_s": target.seconds_to_ready})
            async with watching(target) as watcher:
                plan.say(f"creating {servers} servers on {hosts} hosts")
                ids, _, made = await fleet.create_measured(target, watcher, servers, fleet.CREATORS)
                board.add(NAME, f"{name}: create to ACTIVE, 16 clients", made.figures())
                await locks(target, ids, 16, plan.pick(500, 40))
                for run in range(plan.runs):
                    plan.say(f"{name}, run {run + 1}")
                    locked = await locks(target, ids, 16, plan.pick(4_000, 40))
                    board.add(NAME, f"{name}: lock/unlock, 16 clients", locked.figures())
                    chosen = ids[:: max(1, len(ids) // plan.pick(400, 16))]
                    for action in ("os-stop", "os-start"):
                        spent, done_per_second = await stop_or_start(target, watcher, chosen, 16, action)
                        figures = spent.figures() | {"done_per_s": done_per_second}
                        board.add(NAME, f"{name}: {action.removeprefix('os-')}, 16 clients", figures)
            await measure_reads(plan, board, NAME, target, ids, f"{name}: ")
