"""`chronova replay`: build the read models anew from the log, or prove that they equal it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from cli import options as shared
from cli import output
from cli.errors import Stop
from cli.options import command
from cli.settings import Tables

LAG_SECONDS = 15.0  # how long a projector that runs may need to reach where the log is
HOW_TO_CATCH_UP = "nothing follows the log. `chronova up` brings them up to it, `chronova replay` builds them anew"


@click.command()
@command
@click.option("--verify", is_flag=True, help="Change nothing: compare every row with a fresh fold of the log.")
@shared.DATABASE
def replay(data: Path, config: Path | None, tables: Tables, verify: bool, database: str | None) -> None:
    """Rebuild the read models from the log, or prove them equal to it."""
    asyncio.run(_replay(data, verify, database))


async def _replay(data: Path, verify: bool, database: str | None) -> None:
    from cli.offline import open_place
    from projections import replay as projection
    from projections.database import ReadModelUnavailable

    async with open_place(data, database=database) as place:
        with output.progress("verifying" if verify else "replaying") as tell:
            try:
                if not verify:
                    position = await projection.rebuild(place.log, place.database, tell)
                    click.echo(f"the read models are built anew, up to position {position}")
                    return
                differences = await projection.verify(place.log, place.database, tell)
                position, last = await projection.lag(place.log, place.database, LAG_SECONDS if place.running else 0.0)
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
