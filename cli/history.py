"""`chronova history SERVER`: its actions and their steps, newest action first, or with --follow as they happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli import output
from cli.errors import Stop
from cli.options import command
from cli.settings import Tables

NEWEST = 10  # actions that are looked through for those in progress


@click.command()
@command
@click.argument("server")
@click.option("--timeline", is_flag=True, help="Every event in the order it happened, with what caused it.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many actions.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as it is.")
@click.option("--follow", "-f", is_flag=True, help="What is in progress, then what happens, as it does, until Ctrl-C.")
@click.option("--until-done", is_flag=True, help="As --follow, until nothing is in progress; 1 if the last one failed.")
def history(
    data: Path,
    config: Path | None,
    tables: Tables,
    server: str,
    timeline: bool,
    limit: int,
    as_json: bool,
    follow: bool,
    until_done: bool,
) -> None:
    """Show the actions of SERVER (name or id) and their steps."""
    from cli.client import connect

    if follow or until_done:
        if timeline or as_json:
            raise Stop("--follow shows lines as they come: leave out --timeline and --json", 2)
        _follow(data, server, until_done)
        return
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


def _follow(data: Path, server: str, until_done: bool) -> None:
    from cli.client import connect
    from cli.follow import events_after
    from cli.live import Live

    with connect(data) as system:
        server_id = system.server_id(server)
        told = system.get(f"/v1/servers/{server_id}/history", limit=NEWEST)
        live = Live(action for action in reversed(told["actions"]) if action["result"] is None)
        if not live.open:
            click.echo("Nothing is in progress." if until_done else "Nothing is in progress. Waiting (Ctrl-C ends).")
        events = events_after(system, told["position"], server_id)
        while live.open or not until_done:
            live.tell(next(events))
    if live.failed:
        raise Stop("the last action did not succeed")


def _actions(told: dict[str, Any]) -> None:
    rows: list[list[Any]] = []
    for action in told["actions"]:
        who = action.get("user_name") or action.get("user_id")
        result = "Observed" if action["outcome"] == "observed" else action["result"] or "running"
        fault = (action.get("fault") or {}).get("message") or action["text"] or ""
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
