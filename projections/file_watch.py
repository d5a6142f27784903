"""Whether the file of a SQLite read model is still the one that was opened.

Somebody may remove or replace it under a running system. SQLite does not mind: its open connections go on in the file
that has no name any more, and everything written there is lost with the process. Beside the file SQLite keeps two more,
found by name and mapped into memory. Those of a lost file must be gone before the new one is opened: it would share
them with connections that are still open on the lost one, and a process whose mapped file is cut under it is killed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from projections.database import parse

LOOK_SECONDS = 1.0  # how often to look
BESIDE = ("-wal", "-shm")

Identity = tuple[int, int]

# Two machines may have files of the same name and number.
_MACHINE = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class FileWatch:
    """Looks at the file of one URL; on PostgreSQL there is nothing to look at, and it is always the same."""

    def __init__(self, url: str) -> None:
        parsed = parse(url)
        self._path = (parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        self._opened: dict[str, Identity | None] = {}

    def opened(self) -> None:
        """A connection was just opened and read: what is there now is what it uses."""
        if self._path is not None:
            self._opened = {end: _identity(self._path + end) for end in ("", *BESIDE)}

    @property
    def identity(self) -> str:
        """Of the file that was opened, the same for nobody's other file; "-" on PostgreSQL."""
        return self._named(self._opened.get(""))

    def is_now(self, identity: str) -> bool:
        """Whether the file that is there now, to be opened, is this one."""
        return identity == self._named(_identity(self._path) if self._path is not None else None)

    def _named(self, file: Identity | None) -> str:
        return "-" if self._path is None else f"{_MACHINE}:{file}".replace(" ", "")

    def look(self) -> Literal["same", "gone", "replaced"]:
        if self._path is None:
            return "same"
        found = _identity(self._path)
        if found is None:
            return "gone"
        return "same" if found == self._opened[""] else "replaced"

    def may_open(self) -> bool:
        """Whether there is another file now, and nothing of the lost one beside it."""
        return self.look() == "replaced" and not self._left()

    def clear(self) -> None:
        """Remove what a lost file left. What another process has put in its place stays."""
        for path in self._left():
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _left(self) -> list[str]:
        if self._path is None:
            return []
        paths = {self._path + end: self._opened[end] for end in BESIDE}
        return [path for path, was in paths.items() if was is not None and _identity(path) == was]


def _identity(path: str) -> Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
