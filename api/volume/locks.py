"""Who works on the file of a volume or snapshot: one work per id at a time, whichever API process it runs in.

A file lock in the volume store that ends with its process: what is locked is being worked on, what is not was left.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from domain.errors import Conflict

_LOCKS = ".locks"


class Busy(Conflict):
    """Somebody is at it."""


@contextmanager
def hold(directory: Path, id_: str) -> Iterator[None]:
    """Have it for oneself. Raises `Busy`, also when another work of this process has it."""
    path = directory / _LOCKS / id_
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink == 0:
                raise BlockingIOError  # another work has just ended
        except BlockingIOError:
            raise Busy(f"The file of {id_} is being worked on", hint="Wait for that to end") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)
