"""The files of volumes and snapshots, made by qemu-img.

A volume is `settings.volumes_dir`/<id>, a snapshot `settings.volumes_dir`/snapshots/<id>. A file is written under
another name and renamed when it is complete, so making it again is harmless; what an earlier try left is removed first.
Every call has a time limit. Where no qemu-img is installed (a machine with simulated hosts only) volumes are empty raw
files, and nothing can be copied.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
from pathlib import Path

from commands.progress import Tell, ignore
from domain.errors import Invalid, Rejected, Unavailable

SECONDS = 1800.0
SNAPSHOTS = "snapshots"
GIB = 1 << 30
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")


class DiskFailed(Rejected):
    """qemu-img could not do it; the text says why, and what to do when the store is full."""

    code = 500
    reason = "disk_failed"


_FULL = ("No space left", "Disk quota exceeded")


def failed(text: str) -> DiskFailed:
    if any(words in text for words in _FULL):
        advice = "Delete volumes, snapshots or images, and try again"
        return DiskFailed("The volume store is full.", hint=f"{advice}. ({text})", reason="volume_store_full")
    return DiskFailed(text)


def disk_format() -> str:
    """The format of new volumes on this machine."""
    return "qcow2" if shutil.which("qemu-img") else "raw"


def volume_path(directory: Path, volume_id: str) -> Path:
    return directory.absolute() / volume_id


def snapshot_path(directory: Path, snapshot_id: str) -> Path:
    return directory.absolute() / SNAPSHOTS / snapshot_id


async def create(path: Path, size_gb: int, format_: str) -> None:
    """An empty disk."""
    part = await _part(path)
    if format_ == "raw":
        try:
            await asyncio.to_thread(_sparse, part, size_gb * GIB)
        except OSError as error:
            await asyncio.to_thread(remove, part)
            raise failed(f"{path}: {error.strerror}") from error
    else:
        await _qemu_img(part, "create", "-q", "-f", format_, str(part), f"{size_gb}G")
    await asyncio.to_thread(part.replace, path)


async def copy(source: Path, source_format: str, path: Path, size_gb: int | None, tell: Tell = ignore) -> None:
    """A flat qcow2 copy of another disk, grown to `size_gb`. The source's format is given, never guessed."""
    part = await _part(path)
    await _qemu_img(part, "convert", "-p", "-f", source_format, "-O", "qcow2", str(source), str(part), tell=tell)
    if size_gb is not None:
        await _qemu_img(part, "resize", "-q", "-f", "qcow2", str(part), f"{size_gb}G")
    await asyncio.to_thread(part.replace, path)


async def grow(path: Path, format_: str, size_gb: int) -> None:
    if format_ == "raw":
        await asyncio.to_thread(os.truncate, path, size_gb * GIB)
    else:
        await _qemu_img(None, "resize", "-q", "-f", format_, str(path), f"{size_gb}G")


def must_be_installed() -> None:
    if shutil.which("qemu-img") is None:
        raise Unavailable("qemu-img is not installed here", hint="Install qemu-utils to copy disks")


def must_have_space(directory: Path, size_bytes: int) -> None:
    """Refuse to copy what would not fit. Empty volumes are sparse and may be larger than the disk under them."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if size_bytes > free:
        raise Invalid(f"The volume store has {free} bytes left, {size_bytes} are needed", hint="Free some space")


async def _part(path: Path) -> Path:
    """Where the file is made. An orphan that still writes an earlier part writes into nothing."""
    await asyncio.to_thread(_clear, path)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _clear(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)


def _sparse(path: Path, size: int) -> None:
    with path.open("xb") as file:
        file.truncate(size)


async def _qemu_img(part: Path | None, *arguments: str, tell: Tell = ignore) -> None:
    """Run qemu-img; a file that it leaves half-made is removed. With `-p` it says how far it is."""
    try:
        process = await asyncio.create_subprocess_exec(
            "qemu-img", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise DiskFailed("qemu-img is not installed") from error
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(SECONDS):
            _, errors = await asyncio.gather(_follow(process.stdout, tell), process.stderr.read())
            await process.wait()
    except BaseException as error:
        process.kill()
        await process.wait()
        if part is not None:
            remove(part)
        if isinstance(error, TimeoutError):
            raise DiskFailed(f"qemu-img {arguments[0]} took more than {SECONDS:.0f} s") from error
        raise
    if process.returncode != 0:
        if part is not None:
            remove(part)
        raise failed(f"qemu-img {arguments[0]}: {errors.decode(errors='replace').strip()[-500:]}")


async def _follow(stream: asyncio.StreamReader, tell: Tell) -> None:
    while said := await stream.read(4096):
        if told := _PERCENT.findall(said):
            tell(float(told[-1]))


def remove(path: Path) -> None:
    """The file, and what was to become it."""
    path.unlink(missing_ok=True)
    if path.parent.exists():
        _clear(path)
