"""`chronova machine`: the formal machine, from the very rules that decide. Needs nothing running."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import command
from cli.settings import Tables

FORMATS = ("mermaid", "svg", "matrix", "json")


@click.command()
@command
@click.option("--format", "form", type=click.Choice(FORMATS), default="matrix", show_default=True)
def machine(data: Path, config: Path | None, tables: Tables, form: str) -> None:
    """Print the states, the commands, and which is legal where."""
    from domain.machine import render

    click.echo(getattr(render, form)())
