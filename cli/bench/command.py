"""`chronova bench` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options import command
from cli.settings import Tables, option

DIRECTORY = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command()
@command
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Keep every figure of every run.")
@option("--runs", type=click.IntRange(1, 100), default=3, help="Runs of each measurement.")
@click.option("--quick", is_flag=True, help="Small and once: whether it works, not how fast it is.")
@option(
    "--sync",
    metavar="always|DURATION|default",
    default="always",
    help="When the log is forced to disk: always, or every DURATION such as 2s.",
)
@click.option("--disk", type=DIRECTORY, help="Where to keep data while measuring; default: the temporary directory.")
def bench(data: Path, config: Path | None, tables: Tables, disk: Path | None, **values: Any) -> None:
    """Measure a control plane of its own: append, accept, lifecycle, create, read, replay, as-of, scale, boot, idle."""
    from cli.bench.run import main

    main(directory=disk, **values)
