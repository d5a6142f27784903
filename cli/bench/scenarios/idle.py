"""idle: CPU and memory of everything at rest, with 0 and 1,000 servers, and how long a start takes."""

from __future__ import annotations

import asyncio
from time import perf_counter

from cli.bench import fleet
from cli.bench.figures import Board
from cli.bench.plan import Plan
from cli.bench.target import Target
from cli.bench.watcher import watching

NAME = "idle"
MIB = 1 << 20


async def measure(plan: Plan, board: Board) -> None:
    for run in range(plan.runs):
        async with Target.start(sync=plan.sync, directory=plan.directory) as target:
            board.add(NAME, "start to ready", {"ready_s": target.seconds_to_ready})
            await _at_rest(plan, board, run, target, "0 servers")
            count = plan.pick(1_000, 20)
            plan.say(f"run {run + 1}, creating {count} servers")
            async with watching(target) as watcher:
                await fleet.create(target, watcher, count)
            await _at_rest(plan, board, run, target, f"{count:,} servers")


async def _at_rest(plan: Plan, board: Board, run: int, target: Target, what: str) -> None:
    plan.say(f"run {run + 1}, at rest with {what}")
    await asyncio.sleep(plan.pick(5, 0.1))
    target.count_processes()
    before, began = target.cpu_by_role(), perf_counter()
    await asyncio.sleep(plan.pick(20, 0.3))
    seconds, after = perf_counter() - began, target.cpu_by_role()
    pss = target.pss_by_role()
    cpu = {role: (after[role] - before[role]) / seconds * 100 for role in after}
    board.add(NAME, f"at rest, {what}: everything", _figures(sum(cpu.values()), sum(pss.values())))
    for role in after:
        board.add(NAME, f"at rest, {what}: {role}", _figures(cpu[role], pss.get(role, 0)))


def _figures(cpu_percent: float, pss: int) -> dict[str, float]:
    return {"cpu_percent": cpu_percent, "pss_mib": pss / MIB}
