"""`chronova events`: the events of the log, those that were and, with --follow, those that come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import output
from cli.options import command
from cli.settings import Tables

if TYPE_CHECKING:
    from cli.client import System

PAGE = 500


@click.command()
@command
@click.option("--follow", "-f", is_flag=True, help="Go on with events as they happen, until Ctrl-C.")
@click.option("--server", help="Only those of a server (name or id).")
@click.option("--from", "start", metavar="POSITION", type=click.IntRange(0), default=0, help="Begin at a position.")
@click.option("--json", "as_json", is_flag=True, help="One CloudEvent per line.")
def events(
    data: Path,
    config: Path | None,
    tables: Tables,
    follow: bool,
    server: str | None,
    start: int,
    as_json: bool,
) -> None:
    """List the events of the log, oldest first."""
    from cli.client import connect

    with connect(data) as system:
        server_id = system.server_id(server) if server else None
        last = _past(system, server_id, max(start - 1, 0), as_json)
        if follow:
            _follow(system, server_id, last, as_json)


def _past(system: System, server_id: str | None, position: int, as_json: bool) -> int | str:
    """Print what there is after a position; the position, or the id of an event, that a follower goes on after."""
    after: str | None = str(position)
    event: dict[str, Any] | None = None
    while after is not None:
        page = system.get("/v1/events", server=server_id, after=after, limit=PAGE)
        for event in page["events"]:
            _print(event, as_json)
        position = max(position, page["position"])
        after = page.get("next_after")
    # A page may show more than was there at the position that it tells.
    return event["id"] if event is not None and event["position"] > position else position


def _follow(system: System, server_id: str | None, after: int | str, as_json: bool) -> None:
    from cli.follow import events_after

    for event in events_after(system, after, server_id):
        _print(event, as_json)


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event, ensure_ascii=False))
        return
    words = [event.get("id", ""), output.when(event.get("time")), event["type"], event.get("subject", "")]
    click.echo("  ".join(str(word) for word in words))
