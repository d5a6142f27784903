"""`chronova explain SERVER`: why it is as it is, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli import output
from cli.errors import Stop
from cli.options import command
from cli.settings import Tables


@click.command()
@command
@click.argument("server")
@click.option("--command", "about", metavar="COMMAND", help="Why this command could, or could not, be given now.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as it is.")
def explain(data: Path, config: Path | None, tables: Tables, server: str, about: str | None, as_json: bool) -> None:
    """Explain why SERVER is in ERROR, found no host, waits, or refuses a command."""
    from cli.client import connect
    from domain.machine import MACHINE

    if about is not None and (about not in MACHINE.commands or MACHINE.rule(about).internal):
        raise Stop(f"there is no command {about!r}: `chronova machine` shows all of them", 2)
    with connect(data) as system:
        told = system.get(f"/v1/servers/{system.server_id(server)}/explain", command=about)
    if as_json:
        output.as_json(told)
        return
    click.echo(f"{told['name']} ({told['server_id']}) is {told['status']}: {told['summary']}")
    for line in (told.get("detail"), (told.get("fault") or {}).get("message")):
        if line and line not in told["summary"]:
            click.echo(f"  {line}")
    _evidence(told.get("evidence"))
    for advice in told["advice"]:
        click.echo(f"What to do: {advice}")
    if (asked := told.get("command")) is not None:
        click.echo(_whether(asked))
    click.echo(f"Possible now: {', '.join(told['commands']) or 'nothing'}")
    for one in told["rejections"][:1]:
        click.echo(f"Last refused: {one['command']} by {one['by']} at {output.when(one['at'])} UTC: {one['message']}")


def _whether(asked: dict[str, Any]) -> str:
    """The API's answer to `command` as sentences."""
    if asked["legal"]:
        return f"{asked['command']} could be given now."
    message = asked["message"].rstrip(".")
    return f"{asked['command']} can not be given now: {message}. {asked['hint']}".rstrip()


def _evidence(evidence: dict[str, Any] | None) -> None:
    if evidence is None:
        return
    rows = [
        [one["host"], one["filter"], one["need"], one["have"]]
        if one["filter"]
        else [one["host"], "could take it", "", f"weight {one['weight']}"]
        for one in evidence["rows"]
    ]
    output.table(evidence["summary"], ["host", "filter", "need", "have"], rows)
