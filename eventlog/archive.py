"""The log as a file: exported, checked, restored.

JSON lines. The first is a header; then one line for every position, `{"position", "subject", "recorded_at",
"message"}`, with the message byte for byte as it is stored; the last is a trailer with the number of positions and
the SHA-256 of all lines before it. The file is complete only with its trailer: a truncated one is refused.

A directory of segments (`eventlog.segments`), each such a file that names the digest of the one before it, is read as
one file would be. Its last segment may still be open: it has no trailer, and a line cut short at its end is not there.

`restore` fills an empty log so that every commit has the position it had, or it changes nothing: the file is verified
as a whole before the first commit is written. What a restored log can not have back is the time at which the server
stored each message; the times in the commits are what counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import msgspec

from eventlog.envelope import split
from eventlog.errors import LogError
from eventlog.log import EventLog
from eventlog.verify import Finding, verify_chain

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = 1
RESTORE_WINDOW = 256
MAX_LINE_BYTES = (1 << 20) + (1 << 12)  # a commit and what stands beside it
CLOSED, OPEN = ".jsonl", ".open"  # a segment's suffix

Progress = Callable[[int], object]
T = TypeVar("T")


class ArchiveDamaged(LogError):
    """The file is not a whole archive. `position` is that of the first line that can not be trusted."""

    def __init__(self, position: int, what: str) -> None:
        self.position = position
        self.what = what
        super().__init__(f"the archive is damaged at position {position}: {what}")


class RestoreRefused(LogError):
    """The archive was not restored; the log is as it was."""


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    chronova_log: int
    stream: str
    prefix: str
    previous: str = ""  # of a segment: the digest in the trailer of the one before it


class Entry(msgspec.Struct, frozen=True):
    position: int
    subject: str
    recorded_at: datetime | None
    message: msgspec.Raw


class Trailer(msgspec.Struct, frozen=True):
    count: int
    first: int
    last: int
    sha256: str


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_trailer = msgspec.json.Decoder(Trailer).decode


def header_line(stream: str, prefix: str, previous: str = "") -> bytes:
    return _encode(Header(FORMAT, stream, prefix, previous)) + b"\n"


def entry_line(position: int, subject: str, recorded_at: datetime | None, raw: bytes) -> bytes:
    return _encode(Entry(position, subject, recorded_at, msgspec.Raw(raw))) + b"\n"


def trailer_line(trailer: Trailer) -> bytes:
    return _encode(trailer) + b"\n"


async def export(log: EventLog, file: IO[bytes], *, progress: Progress | None = None) -> Trailer:
    """Write the whole log, up to its newest commit at the time of the call, to a file open for writing."""
    digest = sha256()
    count = 0

    def write(line: bytes) -> None:
        digest.update(line)
        file.write(line)

    write(header_line(log.stream, log.prefix))
    async for batch in log.scan():
        for one in batch:
            write(entry_line(one.position, log.subject_of(one.commit), one.recorded_at, one.raw))
        count += len(batch)
        if progress is not None:
            progress(count)
    trailer = Trailer(count, 1 if count else 0, count, digest.hexdigest())
    file.write(trailer_line(trailer))
    file.flush()
    return trailer


def read(path: Path) -> Iterator[Entry]:
    """The entries of a file or of a directory, as they stand. Raises ArchiveDamaged, at the latest after the last."""
    if not path.is_dir():
        yield from read_file(path)
        return
    previous, last = "", 0
    for listed in segments_of(path):
        segment = listed if listed.exists() else listed.with_suffix(CLOSED)  # it may have been closed just now
        if segment.suffix == OPEN and not _has_header(segment):
            return
        if header_of(segment).previous != previous:
            raise ArchiveDamaged(last + 1, f"{segment.name} is not what followed the segment before it")
        entries = read_file(segment, open_end=segment.suffix == OPEN)
        trailer = yield from entries
        previous, last = trailer.sha256, trailer.last or last


def read_file(path: Path, *, open_end: bool = False) -> Generator[Entry, None, Trailer]:
    """The entries of one file; returns what its trailer says, or with `open_end` what it would say by now."""
    digest = sha256()
    count = 0
    first = last = 0
    with path.open("rb") as file:
        line = file.readline()
        _checked_header(line)
        digest.update(line)
        for line in file:
            if open_end and not line.endswith(b"\n"):
                break
            if line.startswith(b'{"count":'):
                trailer = _checked(_decode_trailer, line, last + 1, "the trailer can not be read")
                if trailer != Trailer(count, first, last, digest.hexdigest()):
                    raise ArchiveDamaged(last, "the trailer does not fit the lines before it")
                if file.readline():
                    raise ArchiveDamaged(last + 1, "there are lines after the trailer")
                return trailer
            digest.update(line)
            entry = _as_the_log_writes(_checked(_decode_entry, line, last + 1, "the line can not be read"))
            count += 1
            first = first or entry.position
            last = entry.position
            yield entry
    if open_end:
        return Trailer(count, first, last, digest.hexdigest())
    raise ArchiveDamaged(last + 1, "the file ends without its trailer")


def _as_the_log_writes(entry: Entry) -> Entry:
    """The entry with its message byte for byte as it was, should a JSON tool have written it with other spaces."""
    if split(bytes(entry.message)) is not None:
        return entry
    return msgspec.structs.replace(entry, message=msgspec.Raw(_encode(msgspec.json.decode(entry.message))))


def segments_of(directory: Path) -> list[Path]:
    """The segments of a directory, in order. Raises ArchiveDamaged if there is none."""
    found = sorted(one for one in directory.iterdir() if one.suffix in (CLOSED, OPEN) and one.stem.isdigit())
    if not found:
        raise ArchiveDamaged(0, f"there is no segment in {directory}")
    if any(one.suffix == OPEN for one in found[:-1]):
        raise ArchiveDamaged(0, "a segment before the last one was never closed")
    return found


def _has_header(path: Path) -> bool:
    """Whether a segment was begun; one that was not has nothing in it."""
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def header_of(path: Path) -> Header:
    with path.open("rb") as file:
        return _checked_header(file.readline())


def decode_entry(line: bytes) -> Entry:
    """Raises ArchiveDamaged for a line that is no entry."""
    return _checked(_decode_entry, line, 0, "the line can not be read")


def trailer_of(path: Path) -> Trailer:
    """The trailer of a file, unchecked. Raises ArchiveDamaged if it ends without one."""
    return _checked(_decode_trailer, _last_lines(path)[-1], 0, f"{path.name} ends without its trailer")


def newest(directory: Path) -> Entry | None:
    """The last whole entry of a directory; None while there is none."""
    for path in reversed(segments_of(directory)):
        for line in reversed(_last_lines(path)):
            if line.endswith(b"\n") and line.startswith(b'{"position":'):
                return decode_entry(line)
    return None


def _last_lines(path: Path) -> list[bytes]:
    """What the end of a file holds: its last two whole lines at least, unless it has fewer."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 3 * MAX_LINE_BYTES))
        return file.readlines() or [b""]


def _checked_header(line: bytes) -> Header:
    header = _checked(_decode_header, line, 0, "there is no header")
    if header.chronova_log != FORMAT:
        raise ArchiveDamaged(0, f"format {header.chronova_log} is not known: use a newer chronova")
    return header


def prefix_of(path: Path) -> str:
    """The subject prefix of the log that was exported."""
    return header_of(segments_of(path)[0] if path.is_dir() else path).prefix


def verify(path: Path, public_key: Ed25519PublicKey | None = None) -> Finding | None:
    """The first position of a file or directory that is not as it was written, or None if all of it is."""
    try:
        entries = ((entry.position, entry.subject, bytes(entry.message)) for entry in read(path))
        return verify_chain(entries, prefix=prefix_of(path), public_key=public_key)
    except ArchiveDamaged as damage:
        return Finding(damage.position, "*", damage.what)


async def restore(
    log: EventLog, path: Path, *, public_key: Ed25519PublicKey | None = None, progress: Progress | None = None
) -> int:
    """Fill an empty log from a file or directory; the number of commits. Raises RestoreRefused, LogUnavailable."""
    finding = await asyncio.to_thread(verify, path, public_key)
    if finding is not None:
        raise RestoreRefused(f"the archive does not verify: {finding}")
    if await log.last_position() != 0:
        raise RestoreRefused("the log is not empty: restore into a new data directory or stream")
    if prefix_of(path) != log.prefix:
        raise RestoreRefused(f"the archive is of subjects {prefix_of(path)}.>, the log of {log.prefix}.>")
    done = 0
    window: list[Entry] = []
    for entry in read(path):
        window.append(entry)
        if len(window) == RESTORE_WINDOW:
            done = await _write(log, window, progress)
            window = []
    return await _write(log, window, progress) if window else done


async def _write(log: EventLog, window: list[Entry], progress: Progress | None) -> int:
    await asyncio.gather(*(log.put_at(entry.position, entry.subject, bytes(entry.message)) for entry in window))
    if progress is not None:
        progress(window[-1].position)
    return window[-1].position


def _checked(decode: Callable[[bytes], T], line: bytes, position: int, what: str) -> T:
    try:
        return decode(line)
    except msgspec.DecodeError as error:
        raise ArchiveDamaged(position, what) from error
