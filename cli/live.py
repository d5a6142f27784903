"""A server's history while it happens, line by line: actions, their steps, how far a long step is, and how each ended.

On a terminal the progress of a step is one line that moves; elsewhere every progress event is a line of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click

from cli import output

ENDS = {
    "succeeded": ("done", "green"),
    "failed": ("FAILED", "red"),
    "reverted": ("undone", "yellow"),
    "cancelled": ("cancelled", "yellow"),
}
BAR = 24


class Live:
    """Tells the events of one server. `open` are the actions in progress, `failed` how the last that ended did."""

    def __init__(self, running: Iterable[dict[str, Any]]) -> None:
        """`running`: the actions of the history that have not ended."""
        self.failed = False
        self.open: dict[tuple[str, str], datetime] = {}
        self._steps: dict[tuple[str, bool], datetime] = {}
        self._moving = False
        for action in running:
            begun = _moment(action["start_time"])
            self.open[action["request_id"], action["command"]] = begun
            self._say(begun, action["command"], f"since {output.when(action['start_time'])} UTC, by {_who(action)}")
            for step in action["steps"]:
                if step["result"] is None:
                    self._steps[step["step"], step["undo"]] = _moment(step["start_time"])
                    told = f"on {step['host']}" if step.get("host") else ""
                    self._say(_moment(step["start_time"]), f"  {_step(step)}", told)

    def tell(self, event: dict[str, Any]) -> None:
        data, at = event["data"], _moment(event["time"])
        _, command, phase = event["type"].split(".")
        action = (event["requestid"], command)
        if phase == "accepted":
            self.open[action] = at
            self._say(at, command, f"by {event['actor']}")
        elif phase == "step_started":
            self._step_started(at, data)
        elif phase == "step_finished":
            self._step_finished(at, data)
        elif phase in ENDS:
            word, colour = ENDS[phase]
            self.failed = phase != "succeeded"
            begun = self.open.pop(action, None)
            took = "" if begun is None else f" in {_took(begun, at)}"
            self._say(at, command, click.style(f"{word}{took}", fg=colour, bold=True) + _why(data))
        else:
            self._say(at, command, data.get("message", "") or phase)

    def _step_started(self, at: datetime, data: dict[str, Any]) -> None:
        percent = data.get("details", {}).get("progress")
        if percent is not None:
            self._move(at, data, int(percent))
            return
        self._steps[data["step"], data.get("undo", False)] = at
        self._say(at, f"  {_step(data)}", f"on {data['host']}" if data.get("host") else "")

    def _step_finished(self, at: datetime, data: dict[str, Any]) -> None:
        begun = self._steps.pop((data.get("step", ""), data.get("undo", False)), None)
        took = "" if begun is None else f" in {_took(begun, at)}"
        word = click.style("failed", fg="red") if data.get("fault") else "done"
        self._say(at, f"  {_step(data)}", word + took + _why(data))

    def _move(self, at: datetime, data: dict[str, Any], percent: int) -> None:
        full = BAR * percent // 100
        line = _line(at, f"  {_step(data)}", f"[{'#' * full}{'.' * (BAR - full)}] {data.get('message', '')}")
        if sys.stdout.isatty():
            click.echo(f"\r\x1b[K{line}", nl=False)
            self._moving = True
        else:
            click.echo(line)

    def _say(self, at: datetime, what: str, how: str) -> None:
        if self._moving:
            click.echo("\r\x1b[K", nl=False)
            self._moving = False
        click.echo(_line(at, what, how))


def _line(at: datetime, what: str, how: str) -> str:
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}  {what:<24}  {how}".rstrip()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _took(begun: datetime, ended: datetime) -> str:
    return f"{(ended - begun).total_seconds():.1f} s"


def _step(data: dict[str, Any]) -> str:
    return f"{'undo ' if data.get('undo') else ''}{data.get('step') or 'step'}"


def _who(action: dict[str, Any]) -> str:
    return str(action.get("user_name") or action["user_id"])


def _why(data: dict[str, Any]) -> str:
    fault = data.get("fault")
    return f": {fault['message']}" if fault else ""
