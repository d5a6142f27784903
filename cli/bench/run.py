"""`chronova bench`: runs scenarios one after another, shows their figures, keeps them.

Every scenario starts what it measures and stops it again. A scenario that can not run here says why in its place;
one that fails ends the whole run, for half a table would be read as a whole one.
"""

from __future__ import annotations

import importlib
import os
import resource
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from cli.bench import machine, report
from cli.bench.figures import Board
from cli.bench.plan import Plan
from cli.errors import Stop
from cli.roles import run as run_on_uvloop

# In the order in which they run; performance.md says what each is for.
SCENARIOS = ("append", "accept", "lifecycle", "create", "read", "replay", "as-of", "scale", "boot", "idle")
RUNS = 3
FILE_WIDTH = 150


def main(
    scenarios: Sequence[str] = (),
    *,
    json_path: Path | None = None,
    runs: int = RUNS,
    quick: bool = False,
    sync: str = "always",
    directory: Path | None = None,
    console: Console | None = None,
) -> report.Report:
    """Run the named scenarios, or all. Raises Stop for an unknown name and when something does not work.

    `quick` takes small sizes and one run: whether it works, not how fast it is. `directory` is where the data lie
    while it is measured.
    """
    unknown = sorted(set(scenarios) - set(SCENARIOS))
    if unknown:
        raise Stop(f"there is no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}", 2)
    chosen = [name for name in SCENARIOS if name in scenarios or not scenarios]
    console = console or default_console()
    runs = 1 if quick else runs
    _allow_many_files()
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
    conditions = machine.conditions(sync, runs, quick, directory)
    board = Board()
    with console.status("") as status:
        for name in chosen:

            def say(text: str, name: str = name) -> None:
                status.update(f"{name}: {text}")
                if not console.is_terminal:
                    console.print(f"{name}: {text}")

            module = importlib.import_module(f"cli.bench.scenarios.{name.replace('-', '_')}")
            run_on_uvloop(module.measure(Plan(runs, quick, sync, directory, say), board))
    conditions = msgspec.structs.replace(conditions, load_after=os.getloadavg()[0])
    measured = report.Report(conditions, board.lines())
    report.show(measured, console)
    if json_path is not None:
        report.write_json(measured, json_path)
    return measured


def default_console() -> Console:
    """The terminal; a file gets lines that are wide enough for every column."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
