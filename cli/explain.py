"""`chronova explain SERVER`: why it is as it is, and what to do."""

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
@click.option("--command", "about", metavar="COMMAND", help="Why this command could, or could not, be given now.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as it is.")
def explain(data: Path, config: Path | None, tables: Tables, server: str, about: str | None, as_json: bool) -> None:
    """Explain why SERVER is in ERROR, found no host, waits, or refuses a command."""
    from cli.client import connect

    with connect(data) as system:
        told = system.get(f"/v1/servers/{system.server_id(server)}/explain", command=about)
    if as_json:
        output.as_json(told)
        return
    click.echo(f"{told['server_id']} is {told['status']}: {told['summary']}")
    for line in (told.get("detail"), (told.get("fault") or {}).get("message")):
        if line and line not in told["summary"]:
            click.echo(f"  {line}")
    _evidence(told.get("evidence"))
    for advice in told["advice"]:
        click.echo(f"What to do: {advice}")
    if told.get("command"):
        for key, value in told["command"].items():
            click.echo(f"  {key}: {value}")
    click.echo(f"Possible now: {', '.join(told['commands'])}")


def _evidence(evidence: Any) -> None:
    if isinstance(evidence, list) and evidence and all(isinstance(one, dict) for one in evidence):
        columns = list(dict.fromkeys(key for one in evidence for key in one))
        output.table("Evidence", columns, [[one.get(key) for key in columns] for one in evidence])
    elif evidence:
        output.as_json(evidence)
