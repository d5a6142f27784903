"""Figures for people (a table) and for programs (JSON with every run)."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from cli.bench.figures import Line, Spread
from cli.bench.machine import Conditions

FIRST = ("p50_ms", "p95_ms", "p99_ms", "per_s", "done_per_s", "of_limit", "cpu_ms")

UNITS = (("_per_s", "/s"), ("_ms", " ms"), ("_mib", " MiB"), ("_kib", " KiB"), ("_percent", " %"), ("_s", " s"))


class Report(msgspec.Struct, frozen=True):
    conditions: Conditions
    lines: list[Line]


def write_json(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def show(report: Report, console: Console) -> None:
    """One table per scenario: medians, with the smallest and the largest run below them when there were several."""
    for name in dict.fromkeys(line.scenario for line in report.lines):
        lines = [line for line in report.lines if line.scenario == name]
        columns = _columns(lines)
        table = Table(title=name, title_justify="left", title_style="bold", row_styles=["", "dim"], pad_edge=False)
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(_heading(column), justify="right", no_wrap=True)
        for line in lines:
            if line.figures:
                table.add_row(line.what, *(_cell(line.figures.get(column)) for column in columns))
            if line.note:
                table.add_row(f"{line.what}: {line.note}" if not line.figures else f"  {line.note}")
        console.print(table)
    console.print(_footer(report.conditions), style="dim")


def _columns(lines: list[Line]) -> list[str]:
    names = list(dict.fromkeys(name for line in lines for name in line.figures))
    return [name for name in FIRST if name in names] + [name for name in names if name not in FIRST]


def _heading(name: str) -> str:
    for suffix, unit in UNITS:
        if name.endswith(suffix) and name != "per_s":
            return name.removesuffix(suffix).replace("_", " ") + unit
    return {"per_s": "/s"}.get(name, name.replace("_", " "))


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return ""
    middle = _number(spread.median)
    return middle if len(spread.runs) == 1 else f"{middle}\n{_number(spread.min)}-{_number(spread.max)}"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _footer(had: Conditions) -> str:
    return (
        f"commit {had.commit}, Python {had.python}, {had.nats_server}, {had.cores} cores, {had.system}, {had.disk}, "
        f"fsync {had.sync}; load average {had.load_before:.1f} before, {had.load_after:.1f} after; median"
        f"{' (one run)' if had.runs == 1 else f' of {had.runs} runs, smallest-largest below'}; cpu ms: of all "
        "processes per operation; generator: the load generator's own, on the same cores"
    )
