"""`chronova show SERVER [--as-of MOMENT]`: the state then, with who and what led to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cli import output
from cli.options import command
from cli.settings import Tables


@click.command()
@command
@click.argument("server")
@click.option("--as-of", metavar="TIME|POSITION", help="A moment of the past: 1204, or 2026-01-31T03:12:00Z.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as it is.")
def show(data: Path, config: Path | None, tables: Tables, server: str, as_of: str | None, as_json: bool) -> None:
    """Show SERVER (name or id), now or at a moment of the past."""
    from cli.client import connect

    with connect(data) as system:
        address = f"/v1/servers/{system.server_id(server)}"
        shown = system.get(address, as_of=as_of)
        led_to_it = shown.pop("as_of", None) or system.get(address, as_of=shown["position"])["as_of"]
    if as_json:
        output.as_json(shown | {"as_of": led_to_it})
        return
    flat = [[key, _text(value)] for key, value in _leading(shown) if value not in (None, "", [], {})]
    output.table("", ["field", "value"], flat)
    output.table("What led to it", ["", ""], _origin(led_to_it))


def _origin(commit: dict[str, Any]) -> list[list[Any]]:
    """Who and what made the state: the action and who asked for it, and the commit of it that is the newest."""
    action = commit["action"]
    asked = [["action", action["command"]], ["asked by", action["asked_by"]]] if action is not None else []
    return [
        *asked,
        ["request", commit["request_id"]],
        ["position", commit["position"]],
        ["at", output.when(commit["at"])],
        ["appended by", commit["by"].get("user_name") or commit["by"]["user_id"]],
        ["events", ", ".join(commit["events"])],
    ]


def _leading(shown: dict[str, Any]) -> list[tuple[str, Any]]:
    """The answer's fields, the server's own spread out."""
    inner = shown.get("server")
    fields = {**inner, **{k: v for k, v in shown.items() if k != "server"}} if isinstance(inner, dict) else shown
    first = ("name", "id", "status", "vm_state", "task_state", "power_state", "host")
    return [(key, fields[key]) for key in first if key in fields] + [
        (key, value) for key, value in fields.items() if key not in first
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
