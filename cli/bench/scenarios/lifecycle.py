"""lifecycle: actions on distinct servers until each is done, with 1 and 16 clients.

A client waits for the end of its action before it sends the next one. An action is done when it has been answered and
the commit that ends it is in the log (see `watcher`).
"""

from __future__ import annotations

from cli.bench import fleet
from cli.bench.figures import Board, latency_figures
from cli.bench.load import Cost
from cli.bench.plan import Plan
from cli.bench.target import Target
from cli.bench.watcher import watching

NAME = "lifecycle"
# In an order that brings every server back to ACTIVE.
ACTIONS: tuple[tuple[str, str, object], ...] = (
    ("stop", "os-stop", None),
    ("start", "os-start", None),
    ("pause", "pause", None),
    ("unpause", "unpause", None),
    ("reboot soft", "reboot", {"type": "SOFT"}),
    ("reboot hard", "reboot", {"type": "HARD"}),
    ("lock", "lock", None),
    ("unlock", "unlock", None),
)


async def measure(plan: Plan, board: Board) -> None:
    async with Target.start(sync=plan.sync, directory=plan.directory) as target, watching(target) as watcher:
        plan.say("creating servers")
        ids = await fleet.create(target, watcher, plan.pick(400, 16))
        for _, action, argument in ACTIONS:
            await fleet.act_measured(target, watcher, ids[:32], 16, action, argument)
        for run in range(plan.runs):
            for clients, count in ((1, plan.pick(100, 4)), (16, plan.pick(400, 16))):
                plan.say(f"run {run + 1}, {clients} clients")
                for name, action, argument in ACTIONS:
                    done = await fleet.act_measured(target, watcher, ids[:count], clients, action, argument)
                    board.add(NAME, f"{name}, {clients} client{'s' if clients > 1 else ''}", until_done(*done))


def until_done(accepted: list[float], spent: Cost) -> dict[str, float]:
    """Latency until done, and until accepted, which is less."""
    first = latency_figures(accepted)
    return {"accepted_p50_ms": first["p50_ms"], "accepted_p99_ms": first["p99_ms"]} | spent.figures()
