"""The files of a continuous archive: segments, each an archive file of its own (`eventlog.archive`).

A segment is named by its first position. It is written as `<first>.open`; full, it gets its trailer, is read back from
the disk and compared, and only then becomes `<first>.jsonl`, read-only, never touched again. What is in the open one is
checked line by line when it is taken up again; from the first line that does not hold it is cut, and written anew.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import IO

from eventlog import archive
from eventlog.archive import CLOSED, OPEN, ArchiveDamaged, Entry, Trailer
from eventlog.verify import ChainVerifier

SEGMENT_COMMITS = 10_000
SEGMENT_BYTES = 32 << 20


class Segment:
    """The open segment, being written. `last` is the last position in it; `first - 1` while it is empty."""

    def __init__(self, path: Path, prefix: str) -> None:
        self.first = self.next = int(path.stem)
        self._path = path
        self._prefix = prefix
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        self._digest = sha256()
        self._bytes = 0
        self._verifier = ChainVerifier(first_position=self.first, prefix=prefix)

    @classmethod
    def begin(cls, directory: Path, first: int, stream: str, prefix: str, previous: str) -> Segment:
        """A new one, after the segment whose digest is `previous`."""
        segment = cls(directory / f"{first:020}{OPEN}", prefix)
        segment._file.truncate(0)
        segment._write(archive.header_line(stream, prefix, previous))
        return segment

    @classmethod
    def take_up(cls, path: Path, stream: str, prefix: str, previous: str) -> Segment:
        """The one that was left open, up to where it holds."""
        segment = cls(path, prefix)
        for line in segment._file:
            if not segment._holds(line, archive.header_line(stream, prefix, previous)):
                break
            segment._digest.update(line)
            segment._bytes += len(line)
        segment._file.truncate(segment._bytes)
        segment._file.seek(segment._bytes)
        if not segment._bytes:
            segment._write(archive.header_line(stream, prefix, previous))
        return segment

    @property
    def last(self) -> int:
        return self.next - 1

    def is_full(self, commits: int) -> bool:
        return self.next - self.first >= commits or self._bytes >= SEGMENT_BYTES

    def add(self, entry: Entry) -> None:
        """The next commit. Raises ArchiveDamaged if it is not the next, or not what the log's chain says."""
        finding = self._verifier.check(entry.position, entry.subject, bytes(entry.message))
        if finding is not None:
            raise ArchiveDamaged(finding.position, f"the log's own commit is not archived: {finding.what}")
        self._write(archive.entry_line(entry.position, entry.subject, entry.recorded_at, bytes(entry.message)))
        self.next += 1

    def sync(self) -> None:
        """Force what was added to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> str:
        """End it with its trailer, compare what the disk has, and give it its final name; its digest."""
        digest = self._digest.hexdigest()
        self._file.write(archive.trailer_line(Trailer(self.next - self.first, self.first, self.last, digest)))
        self.sync()
        self._file.close()
        for _ in archive.read_file(self._path):  # raises if it is not what was written
            pass
        final = self._path.with_suffix(CLOSED)
        self._path.chmod(0o400)
        self._path.rename(final)
        sync_directory(final.parent)
        return digest

    def leave(self) -> None:
        """Stop writing; it stays open for the next start."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._digest.update(line)
        self._bytes += len(line)

    def _holds(self, line: bytes, header: bytes) -> bool:
        """Whether a line of a file that was left is what was meant to be there, and count it if so."""
        if not self._bytes:
            return line == header
        if not line.endswith(b"\n"):
            return False
        try:
            entry = archive.decode_entry(line)
        except ArchiveDamaged:
            return False  # a trailer, too: the segment is closed again
        if self._verifier.check(entry.position, entry.subject, bytes(entry.message)) is not None:
            return False
        self.next += 1
        return True


def sync_directory(directory: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
