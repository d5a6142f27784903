"""How answers look: tables (in colour on a terminal only), and progress bars for people, lines for the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

LINES_EVERY_PERCENT = 10


def when(text: str | None) -> str:
    """A time to the millisecond, in UTC, without the date's noise."""
    if not text:
        return ""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    shown = Table(title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(shown)


def as_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function that is told (done, all) over and over: a bar on a terminal, a line now and then elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, all_: bar.update(task, completed=done, total=all_)
        return
    told = 0

    def tell(done: int, all_: int) -> None:
        nonlocal told
        percent = 100 * done // all_ if all_ else 100
        if percent >= told + LINES_EVERY_PERCENT or percent == 100 > told:
            told = percent
            click.echo(f"{what}: {done} of {all_} ({percent} %)", err=True)

    yield tell
