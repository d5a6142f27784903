"""The files of images: one per image, named by its id, in `settings.images_dir`.

Data arrives in a file of a temporary name, which gets its own name only when it is complete, checked and on disk
(fsync of file and directory): a file named by an id is always whole. One upload per image at a time, kept so by a file
lock that ends with its process; what a killed process left is removed by `clean_up`.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from api.image.header import HEADER_BYTES, virtual_size
from domain.errors import Conflict, TooLarge, Unavailable

CHUNK = 1 << 20
_PARTS = ".uploads"


@dataclass(frozen=True)
class Stored:
    """What became of an upload. Digests as hexadecimal text."""

    size: int
    virtual_size: int | None
    md5: str
    sha512: str


class Upload:
    """Takes the data of one image. An async context manager: left with an error, nothing stays."""

    def __init__(self, directory: Path, image_id: str, disk_format: str, limit: int) -> None:
        self._final = directory / image_id
        self._part = directory / _PARTS / image_id
        self._format = disk_format
        self._limit = limit
        self._handle = -1
        self._header = b""
        self._size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()

    async def __aenter__(self) -> Upload:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        handle, self._handle = self._handle, -1
        if type_ is not None:
            self._part.unlink(missing_ok=True)
        os.close(handle)

    def _open(self) -> None:
        self._part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._part, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink == 0:
                raise BlockingIOError  # another upload has just finished
        except BlockingIOError:
            os.close(handle)
            raise Conflict(
                f"Data of image {self._final.name} is being uploaded already", hint="Wait for it to end"
            ) from None
        os.ftruncate(handle, 0)
        self._handle = handle

    async def take(self, stream: AsyncIterator[bytes]) -> Stored:
        """Store the stream under the image's name. Raises 413 past the limit, 400 for an image that is refused."""
        gathered = bytearray()
        async for piece in stream:
            gathered += piece
            if len(gathered) >= CHUNK:
                await asyncio.to_thread(self._write, bytes(gathered))
                gathered.clear()
        await asyncio.to_thread(self._write, bytes(gathered))
        return await asyncio.to_thread(self._finish)

    def _write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            raise TooLarge(f"The image is larger than the {self._limit} bytes that are left for it")
        if len(self._header) < HEADER_BYTES:
            self._header += data[: HEADER_BYTES - len(self._header)]
        self._md5.update(data)
        self._sha512.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            raise Unavailable(
                f"The image store cannot take the data: {error.strerror}", hint="Free some space"
            ) from error

    def _finish(self) -> Stored:
        seen = virtual_size(self._header, self._format, self._size)
        os.fsync(self._handle)
        os.replace(self._part, self._final)
        _sync(self._final.parent)
        return Stored(self._size, seen, self._md5.hexdigest(), self._sha512.hexdigest())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def used_bytes(directory: Path) -> int:
    """What all image files take together."""
    total = 0
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        total = sum(entry.stat().st_size for entry in entries if entry.is_file(follow_symlinks=False))
    return total


def remove(directory: Path, image_id: str) -> None:
    (directory / image_id).unlink(missing_ok=True)
    (directory / _PARTS / image_id).unlink(missing_ok=True)


def clean_up(directory: Path) -> None:
    """Remove what uploads left behind that were killed. Those that still run, in another process, stay."""
    parts = directory / _PARTS
    for part in parts.iterdir() if parts.is_dir() else ():
        handle = os.open(part, os.O_WRONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


def measured(path: Path) -> tuple[int, str, str]:
    """Size, md5 and sha512 of a file."""
    md5, sha512 = hashlib.md5(usedforsecurity=False), hashlib.sha512()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            md5.update(chunk)
            sha512.update(chunk)
    return path.stat().st_size, md5.hexdigest(), sha512.hexdigest()
