"""`chronova stuck`: operations whose undo failed, and the operator's word on them.

retry does the failed undo again, skip takes it for done, abandon leaves the rest of the undo and settles the server.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli import output
from cli.errors import Stop
from cli.log_access import LogAccess, log_options
from cli.options import command
from cli.settings import Tables

COLUMNS = ["server", "name", "host", "command", "step", "since (UTC)", "why"]


@click.group()
def stuck() -> None:
    """Operations that wait for an operator."""


@stuck.command(name="list")
@command
@log_options
def list_(data: Path, config: Path | None, tables: Tables, access: LogAccess) -> None:
    """List what is stuck. Exit code 1 if anything is."""
    found = asyncio.run(_list(data, access))
    if not found:
        click.echo("nothing is stuck")
        return
    output.table("", COLUMNS, found)
    raise Stop(f"{len(found)} stuck: chronova stuck retry|skip|abandon SERVER, explain SERVER says why")


def _resolution(how: str, help_text: str) -> click.Command:
    @command
    @log_options
    @click.argument("server")
    def resolve(data: Path, config: Path | None, tables: Tables, server: str, access: LogAccess) -> None:
        asyncio.run(_resolve(data, access, server, how))

    return stuck.command(name=how, help=help_text)(resolve)


retry = _resolution("retry", "Do the failed undo step of SERVER again.")
skip = _resolution("skip", "Take the failed undo step of SERVER for done.")
abandon = _resolution("abandon", "Leave the rest of the undo of SERVER and settle it.")


async def _list(data: Path, access: LogAccess) -> list[list[Any]]:
    from cli.offline import open_place
    from domain.server import decode_server

    rows = []
    async with open_place(data, access) as place:
        async for one in place.log.scan_last("server"):
            server = decode_server(one.commit.state)
            operation = server.operation
            if operation is None or not operation.stuck:
                continue
            why = server.fault.message if server.fault else ""
            since = output.when(one.commit.meta.occurred_at.isoformat())
            rows.append([server.id, server.name, server.host, operation.command, operation.step, since, why])
    return rows


async def _resolve(data: Path, access: LogAccess, name: str, how: str) -> None:
    from cli.offline import open_place
    from commands.context import SERVICE
    from commands.handler import Commands
    from commands.hosts import HostWatch
    from commands.settings import CommandSettings
    from domain import decide
    from domain.decide import Context
    from domain.errors import Rejected
    from domain.server import Server, ServerEvent, decode_server

    async def at_once(_: int) -> None:
        """Nobody reads the answer from a read model."""

    async with open_place(data, access) as place:
        ids = []
        async for one in place.log.scan_last("server"):
            state = decode_server(one.commit.state)
            if name in (state.id, state.name) and state.operation is not None and state.operation.stuck:
                ids.append(state.id)
        if len(ids) != 1:
            found = "no" if not ids else f"{len(ids)}"
            raise Stop(f"{found} stuck server is {name!r}: `chronova stuck list` shows ids")
        settings = CommandSettings()
        commands = Commands(
            place.log, visible=at_once, settings=settings, hosts=HostWatch(place.log, settings.host_down_after)
        )

        def choose(server: Server) -> list[ServerEvent]:
            return decide.resolve_stuck(
                server, how, Context(datetime.now(UTC), "", SERVICE.user_id, None, is_admin=True)
            )

        try:
            await commands.internal(ids[0], choose, causation_id="operator")
        except Rejected as rejected:
            raise Stop(rejected.text) from rejected
    click.echo(f"{ids[0]}: {how}; `chronova history {ids[0]}` shows what comes of it")
