"""`chronova audit`: prove the log, take it away as a file, check such a file, bring it back.

Exit code 0: everything holds; 1: a finding (the first one is printed).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import output
from cli.errors import Stop
from cli.options import command
from cli.settings import Tables

if TYPE_CHECKING:
    from eventlog.envelope import Recorded
    from eventlog.log import EventLog
    from eventlog.verify import Finding

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def audit() -> None:
    """Hash chain and machine conformance; portable log files."""


@audit.command()
@command
@click.argument("file", type=FILE, required=False)
def verify(data: Path, config: Path | None, tables: Tables, file: Path | None) -> None:
    """Prove the log (or an exported FILE): chain, checkpoints, and every event a move of the machine."""
    asyncio.run(_verify_file(data, file) if file is not None else _verify_log(data))


@audit.command()
@command
@click.argument("file", type=FILE)
def export(data: Path, config: Path | None, tables: Tables, file: Path) -> None:
    """Write the whole log to FILE."""
    asyncio.run(_export(data, file))


@audit.command(name="import")
@command
@click.argument("file", type=FILE)
def import_(data: Path, config: Path | None, tables: Tables, file: Path) -> None:
    """Fill an empty data directory from FILE, every commit at the position it had."""
    asyncio.run(_restore(data, file))


@audit.command()
@command
@click.argument("file", type=FILE)
def restore(data: Path, config: Path | None, tables: Tables, file: Path) -> None:
    """As import, and build the read models too: after a lost disk."""
    asyncio.run(_restore(data, file, read_models=True))


async def _verify_log(data: Path) -> None:
    from cli.offline import open_place
    from commands.audit import MachineAudit
    from eventlog.checkpoint import load_public_key
    from eventlog.verify import ChainVerifier

    async with open_place(data) as place:
        log = place.log
        chain = ChainVerifier(prefix=log.prefix, public_key=load_public_key(data / "keys"))
        machine = MachineAudit()
        with output.progress("verifying") as tell:
            last = await log.last_position()
            async for batch in log.scan(upto=last):
                _stop_at(await asyncio.to_thread(_check, chain, machine, batch, log))
                tell(chain.position, last)
    _all_well(chain.position, machine.events, chain.checkpoints)


def _check(chain: Any, machine: Any, batch: Iterable[Recorded], log: EventLog) -> Finding | None:
    from eventlog.verify import Finding

    for one in batch:
        subject = log.subject_of(one.commit)
        finding: Finding | None = chain.check(one.position, subject, one.raw)
        if finding is not None:
            return finding
        if (wrong := machine.feed(one.commit)) is not None:
            return Finding(one.position, subject, wrong)
    return None


async def _verify_file(data: Path, file: Path) -> None:
    from commands.audit import MachineAudit
    from eventlog import archive
    from eventlog.checkpoint import load_public_key
    from eventlog.envelope import decode
    from eventlog.verify import Finding

    _must_exist(file)
    key = load_public_key(data / "keys")
    _stop_at(await asyncio.to_thread(archive.verify, file, key))
    machine, position = MachineAudit(), 0
    for entry in archive.read(file):
        position = entry.position
        commit = decode(position, entry.subject, bytes(entry.message), entry.recorded_at).commit
        if (wrong := machine.feed(commit)) is not None:
            _stop_at(Finding(position, entry.subject, wrong))
    _all_well(position, machine.events, None)


def _stop_at(finding: Finding | None) -> None:
    if finding is not None:
        raise Stop(f"the log does not hold: {finding}")


def _all_well(position: int, events: int, checkpoints: int | None) -> None:
    signed = "" if checkpoints is None else f", {checkpoints} checkpoints"
    click.echo(f"all holds: {position} commits, {events} events{signed}; the chain is whole, every event a legal move")


async def _export(data: Path, file: Path) -> None:
    from cli.offline import open_place
    from eventlog import archive

    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    async with open_place(data) as place:
        last = await place.log.last_position()
        try:
            with output.progress("exporting") as tell, fresh.open("wb") as out:
                trailer = await archive.export(place.log, out, progress=lambda done: tell(done, last))
                os.fsync(out.fileno())
            os.replace(fresh, file)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise Stop(f"{file} can not be written: {error.strerror}") from error
    click.echo(f"{trailer.count} commits are in {file}")


async def _restore(data: Path, file: Path, *, read_models: bool = False) -> None:
    from cli.offline import open_place
    from eventlog import archive
    from eventlog.checkpoint import load_public_key
    from projections import replay as projection

    _must_exist(file)
    async with open_place(data, may_be_new=True) as place:
        if place.running:
            raise Stop(f"chronova runs on {data}: stop it first")
        total = sum(1 for _ in file.open("rb")) - 2
        with output.progress("restoring") as tell:
            count = await archive.restore(
                place.log, file, public_key=load_public_key(data / "keys"), progress=lambda done: tell(done, total)
            )
        click.echo(f"{count} commits are restored to {data}")
        if read_models:
            with output.progress("replaying") as tell:
                await projection.rebuild(place.log, place.database, tell)
            click.echo("the read models are built")


def _must_exist(file: Path) -> None:
    if not file.is_file():
        raise Stop(f"there is no file {file}")
