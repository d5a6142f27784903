"""Copies of files that say how far they are. Blocking: for a worker thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

Tell = Callable[[float], None]  # percent
CHUNK = 32 << 20


def ignore(percent: float) -> None:
    """For whoever does not want to know."""


def on_loop(tell: Tell) -> Tell:
    """The same for a worker thread: it is called on the event loop of whoever asks for it."""
    loop = asyncio.get_running_loop()

    def told(percent: float) -> None:
        loop.call_soon_threadsafe(tell, percent)

    return told


def copy_file(source: Path, target: Path, tell: Tell) -> None:
    """Copy the content; `tell` is called in this thread after every 32 MiB. Raises `OSError`."""
    with source.open("rb") as read, target.open("wb") as write:
        size = os.fstat(read.fileno()).st_size
        done = 0
        while sent := os.sendfile(write.fileno(), read.fileno(), done, CHUNK):
            done += sent
            tell(100 * done / size)
