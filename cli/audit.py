"""`chronova audit`: prove the log, take it away as a file, check such a file, bring it back.

Exit code 0: everything holds; 1: a finding (the first one is printed).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from cli import output, rundir
from cli.errors import Stop
from cli.log_access import LogAccess, log_options
from cli.options import command
from cli.settings import PlacePath, Tables, option

if TYPE_CHECKING:
    from eventlog.archive import Entry
    from eventlog.envelope import Recorded
    from eventlog.log import EventLog
    from eventlog.verify import Finding

FILE = click.Path(path_type=Path, dir_okay=False)
# What only the old data directory has: what seals passwords and signs the log, who may sign in, guests, and disks.
BESIDE_THE_LOG = ("keys/", "passwords.json", "agents/", "images/", "volumes/")
ARCHIVE = click.Path(path_type=Path)  # an exported file, or the directory of the continuous archive


@click.group()
def audit() -> None:
    """Hash chain and machine conformance; portable log files."""


@audit.command()
@command
@log_options
@option(
    "--archive",
    type=PlacePath(path_type=Path, file_okay=False),
    metavar="DIR",
    show_default=False,
    help="The archive to compare the log with; default: that of the last start.",
)
@click.argument("file", type=ARCHIVE, required=False)
def verify(
    data: Path, config: Path | None, tables: Tables, file: Path | None, archive: Path | None, access: LogAccess
) -> None:
    """Prove the log (or an exported FILE, or the archive's directory): chain, checkpoints, every event a legal move."""
    asyncio.run(_verify_file(data, access, file) if file is not None else _verify_log(data, access, archive))


@audit.command()
@command
@log_options
@click.argument("file", type=FILE)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def export(data: Path, config: Path | None, tables: Tables, file: Path, force: bool, access: LogAccess) -> None:
    """Write the whole log to FILE, readable by its owner only."""
    if file.exists() and not force:
        raise Stop(f"{file} exists: choose another name, or give --force to replace it", 2)
    asyncio.run(_export(data, access, file))


@audit.command(name="import")
@command
@log_options
@click.argument("file", type=ARCHIVE)
def import_(data: Path, config: Path | None, tables: Tables, file: Path, access: LogAccess) -> None:
    """Fill an empty data directory from FILE (or the archive's directory), every commit at the position it had."""
    asyncio.run(_restore(data, access, file))


@audit.command()
@command
@log_options
@click.argument("file", type=ARCHIVE)
def restore(data: Path, config: Path | None, tables: Tables, file: Path, access: LogAccess) -> None:
    """As import, and build the read models too: after a lost disk."""
    asyncio.run(_restore(data, access, file, read_models=True))


async def _verify_log(data: Path, access: LogAccess, archive: Path | None) -> None:
    from cli.offline import open_place
    from commands.audit import MachineAudit
    from eventlog.checkpoint import load_public_key
    from eventlog.verify import ChainVerifier

    async with open_place(data, access) as place:
        log = place.log
        chain = ChainVerifier(prefix=log.prefix, public_key=load_public_key(data / "keys"), locate=True)
        machine, copy = MachineAudit(), _copy(data, archive)
        with output.progress("verifying") as tell:
            last = await log.last_position()
            async for batch in log.scan(upto=last):
                _stop_at(await asyncio.to_thread(_check, chain, machine, copy, batch, log))
                tell(chain.position, last)
        _stop_at(chain.finish())
        _stop_at(copy.what_follows(await log.last_position()))
    if copy.damage:
        click.echo(f"not compared with the archive{' from there on' if copy.exists else ''}: {copy.damage}", err=True)
    _all_well(chain.position, machine.events, chain.checkpoints)


def _check(chain: Any, machine: Any, copy: _Copy, batch: Iterable[Recorded], log: EventLog) -> Finding | None:
    from eventlog.verify import Finding

    for one in batch:
        subject = log.subject_of(one.commit)
        if not copy.holds(one):
            return Finding(one.position, subject, f"the archive in {copy.directory} holds another commit there")
        finding: Finding | None = chain.check(one.position, subject, one.raw)
        if finding is not None:
            return finding
        if chain.finish() is None and (wrong := machine.feed(one.commit)) is not None:
            return Finding(one.position, subject, wrong)
    return None


def _copy(data: Path, named: Path | None) -> _Copy:
    """The archive that was named, else that of the last start. Raises Stop when none is where it was named."""
    noted = rundir.last_log(data).get("archive")
    copy = _Copy(named or (Path(noted) if noted else data / "archive"))
    if named is not None and not copy.exists:
        raise Stop(f"there is no archive in {named}: name the directory that `chronova up --archive` has", 2)
    if noted and not copy.exists:
        copy.damage = f"there is none in {noted}, where the last start had it"
    return copy


class _Copy:
    """The archive beside the log, read along with it. `damage`: from where on it can not be read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.exists = any(directory.glob("0*"))
        self.damage = ""
        self._entries = self._read()
        self._next = next(self._entries, None)

    def holds(self, recorded: Recorded) -> bool:
        """Whether it has this commit at its position, or nothing there (yet)."""
        entry = self._next
        if entry is None or entry.position != recorded.position:
            return entry is None or entry.position > recorded.position
        self._next = next(self._entries, None)
        return bytes(entry.message) == recorded.raw

    def what_follows(self, last: int) -> Finding | None:
        """What it has after the log's end."""
        from eventlog.verify import Finding

        if self._next is None or self._next.position <= last:
            return None
        return Finding(self._next.position, "*", f"the log ends at {last}, its archive in {self.directory} goes on")

    def _read(self) -> Iterator[Entry]:
        from eventlog import archive

        if not self.exists:
            return
        try:
            yield from archive.read(self.directory)
        except (archive.ArchiveDamaged, OSError) as error:
            self.damage = str(error)


async def _verify_file(data: Path, access: LogAccess, file: Path) -> None:
    from commands.audit import MachineAudit
    from eventlog import archive
    from eventlog.checkpoint import load_public_key
    from eventlog.envelope import decode
    from eventlog.verify import Finding

    _must_be_a_log(file)
    key = load_public_key(data / "keys")
    _stop_at(await asyncio.to_thread(archive.verify, file, key))
    machine, position = MachineAudit(), 0
    hashes: list[str] = []
    for entry in archive.read(file):
        position = entry.position
        recorded = decode(position, entry.subject, bytes(entry.message), entry.recorded_at)
        if (wrong := machine.feed(recorded.commit)) is not None:
            _stop_at(Finding(position, entry.subject, wrong))
        hashes.append(recorded.hash)
    _all_well(position, machine.events, None)
    click.echo(await _end_of(data, access, hashes))


class Differs(Stop):
    """A file says something else than the log it was taken from."""


async def _end_of(data: Path, access: LogAccess, hashes: list[str]) -> str:
    """What the log of the data directory says of a file with these commits. Raises Stop if it says another thing.

    A file that was cut and given a fitting trailer is whole in itself: only the log can tell that it went on.
    """
    from cli.offline import open_place

    alone = f"whole up to position {len(hashes)}; nothing anchors its end"
    try:
        async with open_place(data, access) as place:
            last, compared = await place.log.last_position(), 0
            async for batch in place.log.scan(upto=min(last, len(hashes))):
                for one in batch:
                    if one.hash != hashes[one.position - 1]:
                        if one.position == 1:
                            return f"{alone}: the log in {data} is another one"
                        raise Differs(f"position {one.position} is not what the log in {data} has there")
                    compared = one.position
    except Differs:
        raise
    except Stop as stop:
        return f"{alone} ({stop})"
    if compared == last == len(hashes):
        return f"the file ends where the log in {data} ends, and every commit is the same"
    if last > len(hashes):
        return f"the file ends at {len(hashes)}, the log in {data} goes on to {last}: whole as far as it goes"
    return f"whole up to position {len(hashes)}; the log in {data} ends at {compared}, nothing anchors what follows"


def _stop_at(finding: Finding | None) -> None:
    if finding is not None:
        raise Stop(f"the log does not hold: {finding}")


def _all_well(position: int, events: int, checkpoints: int | None) -> None:
    signed = "" if checkpoints is None else f", {checkpoints} checkpoints"
    click.echo(f"all holds: {position} commits, {events} events{signed}; the chain is whole, every event a legal move")


async def _export(data: Path, access: LogAccess, file: Path) -> None:
    from cli.offline import open_place
    from eventlog import archive

    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    async with open_place(data, access) as place:
        last = await place.log.last_position()
        try:
            with output.progress("exporting") as tell, _private(fresh) as out:
                trailer = await archive.export(place.log, out, progress=lambda done: tell(done, last))
                os.fsync(out.fileno())
            os.replace(fresh, file)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise Stop(f"{file} can not be written: {error.strerror}") from error
    click.echo(f"{trailer.count} commits are in {file}")


def _private(file: Path) -> IO[bytes]:
    """A new file for its owner only: a log names users and what they did."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


async def _restore(data: Path, access: LogAccess, file: Path, *, read_models: bool = False) -> None:
    from cli.offline import open_place
    from eventlog import archive
    from eventlog.checkpoint import load_public_key
    from projections import replay as projection

    _must_be_a_log(file)
    key = load_public_key(data / "keys")
    _stop_at(await asyncio.to_thread(archive.verify, file, key))  # before there is a directory for it
    async with open_place(data, access, may_be_new=True) as place:
        if place.running:
            raise Stop(f"chronova runs on {data}: stop it first")
        total = sum(1 for _ in archive.read(file))
        with output.progress("restoring") as tell:
            count = await archive.restore(place.log, file, public_key=key, progress=lambda done: tell(done, total))
        click.echo(f"{count} commits are restored to {data}")
        if read_models:
            with output.progress("replaying") as tell:
                await projection.rebuild(place.log, place.database, tell)
            click.echo("the read models are built")
    missing = [name for name in BESIDE_THE_LOG if not (data / name.rstrip("/")).exists()]
    if missing:
        click.echo(
            f"the log is all that an archive holds: bring {', '.join(missing)} of the old data directory to {data}, too"
        )


def _must_be_a_log(file: Path) -> None:
    from eventlog import archive

    if not file.exists():
        raise Stop(f"there is no file {file}")
    try:
        archive.header_of(archive.segments_of(file)[0] if file.is_dir() else file)
    except archive.ArchiveDamaged as damage:
        raise Stop(f"{file} is no chronova log: {damage.what}") from damage
