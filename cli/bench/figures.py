"""Figures of several runs: kept raw, summed up as median, smallest and largest."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """One figure over the runs."""

    median: float
    min: float
    max: float
    runs: list[float]


class Line(msgspec.Struct, frozen=True):
    """What was measured, and its figures by name; a name ends in its unit (`p50_ms`, `per_s`, `cpu_ms`)."""

    scenario: str
    what: str
    figures: dict[str, Spread]
    note: str = ""


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values), list(values))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed (nearest rank). `ordered` ascends and is not empty."""
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def latency_figures(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"p{share}_ms": percentile(ordered, share / 100) * 1000 for share in (50, 95, 99)}


class Board:
    """Collects the runs of every line, in the order in which lines first appear."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[dict[str, float]]] = {}
        self._notes: dict[tuple[str, str], str] = {}

    def add(self, scenario: str, what: str, figures: dict[str, float]) -> None:
        """One run."""
        self._values.setdefault((scenario, what), []).append(figures)

    def note(self, scenario: str, what: str, text: str) -> None:
        """A sentence instead of figures, or beside them."""
        self._values.setdefault((scenario, what), [])
        self._notes[scenario, what] = text

    def lines(self) -> list[Line]:
        lines = []
        for (scenario, what), runs in self._values.items():
            names = list(dict.fromkeys(name for run in runs for name in run))
            figures = {name: spread([run[name] for run in runs if name in run]) for name in names}
            lines.append(Line(scenario, what, figures, self._notes.get((scenario, what), "")))
        return lines
