"""The timeline: one lane per action on a shared axis, as shapes with places. Pure.

The axis is cut where nothing happened: a gap longer than the busy time around it deserves becomes a narrow break with
its length written in it, so that seconds of work stay visible beside hours of rest. Waiting (an order is out, its host
has not begun) and working are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from api.ui.words import clock, command_title, result_look, step_title, took
from projections.rows import ActionRow, StepRow

WIDTH, LABEL, RIGHT = 1000.0, 190.0, 16.0
TOP, LANE, BAR = 26.0, 26.0, 14.0
GAP = 72.0  # the width of a break
LEAST_GAP_SECONDS = 5.0
LEAST_BAR = 4.0
LANES = 12
TICK_ROOM = 90.0
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    hue: str
    title: str
    running: bool = False


@dataclass(frozen=True)
class Lane:
    """One action. `words` says it to who does not see it; `y` is the top of its bars."""

    anchor: str
    label: str
    hue: str
    words: str
    y: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Mark:
    x: float
    text: str


@dataclass(frozen=True)
class Break:
    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """`scale`: pixels per second at the right end, where time goes on."""

    width: float
    height: float
    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]
    breaks: tuple[Break, ...]
    scale: float
    summary: str


@dataclass(frozen=True)
class _Span:
    """A stretch of time in which something happened, and where it is drawn."""

    start: float
    end: float
    x: float
    scale: float

    def place(self, at: float) -> float:
        return self.x + (at - self.start) * self.scale


class _Axis:
    """Time to place. Times are seconds since `origin`."""

    def __init__(self, busy: Sequence[tuple[float, float]]) -> None:
        spans = _merged(busy)
        length = sum(end - start for start, end in spans) or 1.0
        room = WIDTH - LABEL - RIGHT - GAP * (len(spans) - 1)
        # Each stretch gets its share, but none so little that it cannot be seen.
        least = min(56.0, room / len(spans))
        free = room - least * len(spans)
        x = LABEL
        self.spans: list[_Span] = []
        for start, end in spans:
            width = least + free * (end - start) / length
            self.spans.append(_Span(start, end, x, width / max(end - start, 1e-3)))
            x += width + GAP

    def place(self, at: float) -> float:
        for span in self.spans:
            if at <= span.end:
                return max(span.x, span.place(at))
        return self.spans[-1].place(self.spans[-1].end)


def _merged(busy: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Busy stretches, joined where the gap between them is not worth a break."""
    ordered = sorted(busy)
    total = sum(end - start for start, end in ordered)
    least = max(LEAST_GAP_SECONDS, total * 0.5)
    merged = [ordered[0]]
    for start, end in ordered[1:]:
        first, last = merged[-1]
        if start - last > least and len(merged) < 6:
            merged.append((start, end))
        else:
            merged[-1] = (first, max(last, end))
    return merged


def timeline(actions: Sequence[ActionRow], now: datetime) -> Timeline | None:
    """The newest actions as lanes, in the order of the table below them. None without actions."""
    shown = list(actions[:LANES])
    if not shown:
        return None
    origin = min(action.start_time for action in shown)

    def seconds(moment: datetime) -> float:
        return (moment - origin).total_seconds()

    # An instant still takes room, so that it can be seen and pointed at.
    axis = _Axis(
        [
            (seconds(one.start_time), max(seconds(one.finish_time or now), seconds(one.start_time) + 0.05))
            for one in shown
        ]
    )
    lanes = tuple(
        _lane(action, TOP + number * LANE, lambda moment: axis.place(seconds(moment)), now)
        for number, action in enumerate(shown)
    )
    marks = tuple(mark for span in axis.spans for mark in _marks(span, origin))
    breaks = tuple(
        Break(after.x - GAP, GAP, f"{_roughly(after.start - before.end)} idle")
        for before, after in zip(axis.spans, axis.spans[1:], strict=False)
    )
    height = TOP + LANE * len(shown) + 6
    running = sum(1 for one in shown if one.finish_time is None)
    summary = f"Timeline of the newest {len(shown)} actions, {running} running. The table below has the same in words."
    return Timeline(WIDTH, height, lanes, marks, breaks, axis.spans[-1].scale, summary)


def _roughly(seconds: float) -> str:
    """Rounded to the largest unit, as there is little room."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{round(seconds / size)} {unit}"
    return took(seconds)


def _marks(span: _Span, origin: datetime) -> list[Mark]:
    """The time of day where a stretch begins, then what has passed since, at round distances that leave room."""
    marks = [Mark(span.x, clock(_moment(origin, span.start))[:8])]
    step = next((step for step in TICKS if step * span.scale >= TICK_ROOM), None)
    if step is None:
        return marks
    last = span.x + (span.end - span.start) * span.scale - TICK_ROOM / 2
    number = 1
    while (x := span.x + number * step * span.scale) <= last:
        marks.append(Mark(x, f"+{took(number * step)}"))
        number += 1
    return marks


def _moment(origin: datetime, seconds: float) -> datetime:
    return origin + timedelta(seconds=seconds)


def _lane(action: ActionRow, y: float, place: Any, now: datetime) -> Lane:
    hue, _, word = result_look(action)
    label = command_title(action.command)
    title = f"{label}: {word}, {took(((action.finish_time or now) - action.start_time).total_seconds())}"
    bars: list[Bar] = []
    for step in action.steps:
        bars += _bars(step, place, now)
    if not bars:
        start, end = place(action.start_time), place(action.finish_time or now)
        bars = [Bar(start, max(LEAST_BAR, end - start), hue, title, action.finish_time is None)]
    return Lane(f"a-{action.id}", label, hue, f"{title}, begun {clock(action.start_time)[:8]}", y, tuple(bars))


def _bars(step: StepRow, place: Any, now: datetime) -> list[Bar]:
    """A step as one bar, or as two when it waited before its host began."""
    end = step.finish_time or now
    hue, _, word = result_look(step)
    length = took((end - step.start_time).total_seconds())
    title = f"{step_title(step.step)}{f' on {step.host}' if step.host else ''}: {word}, {length}"
    begun = min((one.started_at for one in step.sub_steps), default=step.start_time)
    x, until = place(step.start_time), place(end)
    bars: list[Bar] = []
    if step.start_time < begun < end and place(begun) - x >= 1.5:
        waited = took((begun - step.start_time).total_seconds())
        bars.append(Bar(x, place(begun) - x, "wait", f"{step_title(step.step)}: waited {waited} for its host"))
        x = place(begun)
    bars.append(Bar(x, max(LEAST_BAR, until - x), hue, title, step.finish_time is None))
    return bars
