"""`chronova replay`: build the read models anew from the log, or prove that they equal it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from cli import options as shared
from cli import output
from cli.errors import Stop
from cli.log_access import LogAccess, log_options
from cli.options import command
from cli.settings import Tables

LAG_SECONDS = 15.0  # how long a projector that runs may need to reach where the log is
HOW_TO_CATCH_UP = "nothing follows the log. `chronova up` brings them up to it, `chronova replay` builds them anew"


@click.command()
@command
@click.option("--verify", is_flag=True, help="Change nothing: compare every row with a fresh fold of the log.")
@shared.DATABASE
@log_options
def replay(
    data: Path, config: Path | None, tables: Tables, verify: bool, database: str | None, access: LogAccess
) -> None:
    """Rebuild the read models from the log, or prove them equal to it."""
    asyncio.run(_replay(data, access, verify, database))


async def _replay(data: Path, access: LogAccess, verify: bool, database: str | None) -> None:
    from cli import preflight
    from cli.offline import open_place
    from projections import replay as projection
    from projections.database import ReadModelUnavailable

    async with open_place(data, access, database=database) as place:
        with output.progress("verifying" if verify else "replaying") as tell:
            try:
                if not verify:
                    preflight.database_must_answer(place.database)
                    position = await projection.rebuild(place.log, place.database, tell)
                    click.echo(f"the read models are built anew, up to position {position}")
                    return
                differences = await projection.verify(place.log, place.database, tell)
                patience = LAG_SECONDS if place.running or place.apart else 0.0
                position, last = await projection.lag(place.log, place.database, patience)
            except ReadModelUnavailable as error:
                raise Stop(str(error)) from error
        for one in differences:
            click.echo(str(one))
        if differences:
            raise Stop("the read models differ from the log: `chronova replay` builds them anew")
        if position < last:
            raise Stop(
                f"read model at {position}, log at {last}: its rows are right as far as they go, but "
                + ("the projector does not follow the log; its log says why" if place.running else HOW_TO_CATCH_UP)
            )
        click.echo("every row of the read models equals the fold of the log")
