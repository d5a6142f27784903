"""`chronova history SERVER`: its actions and their steps, newest action first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli import output
from cli.options import command
from cli.settings import Tables


@click.command()
@command
@click.argument("server")
@click.option("--timeline", is_flag=True, help="Every event in the order it happened, with what caused it.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many actions.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as it is.")
def history(
    data: Path, config: Path | None, tables: Tables, server: str, timeline: bool, limit: int, as_json: bool
) -> None:
    """Show the actions of SERVER (name or id) and their steps."""
    from cli.client import connect

    with connect(data) as system:
        told = system.get(f"/v1/servers/{system.server_id(server)}/history", limit=limit)
    if as_json:
        output.as_json(told)
    elif timeline:
        _timeline(told)
    else:
        _actions(told)
    if not as_json and told["rejections"]:
        rows = [
            [output.when(one["at"]), one["command"], one["by"], one["code"], one["message"]]
            for one in told["rejections"]
        ]
        output.table("Refused", ["at (UTC)", "command", "by", "code", "why"], rows)


def _actions(told: dict[str, Any]) -> None:
    rows: list[list[Any]] = []
    for action in told["actions"]:
        who = action.get("user_name") or action.get("user_id")
        result = action["result"] or "running"
        fault = (action.get("fault") or {}).get("message", "")
        rows.append(
            [output.when(action["start_time"]), action["action"], who, output.seconds(action["seconds"]), result, fault]
        )
        for step in action["steps"]:
            name = f"  {'undo ' if step.get('undo') else ''}{step['step']}"
            fault = (step.get("fault") or {}).get("message", "")
            if not step["result"]:
                fault = fault or step.get("message", "")
            rows.append(
                [
                    output.when(step["start_time"]),
                    name,
                    step.get("host") or "",
                    output.seconds(step["seconds"]),
                    step["result"] or "running",
                    fault,
                ]
            )
    output.table("", ["started (UTC)", "action / step", "by / on", "seconds", "result", "what"], rows)


def _timeline(told: dict[str, Any]) -> None:
    rows = [
        [
            event["position"],
            output.when(event["at"]),
            event["type"],
            event["step"],
            event["actor"].get("user_name") or event["actor"]["user_id"],
            event["caused_by"],
            (event.get("fault") or {}).get("message") or event["message"],
        ]
        for action in reversed(told["actions"])
        for event in action["events"]
    ]
    output.table("", ["position", "at (UTC)", "event", "step", "by", "caused by", "what"], rows)
