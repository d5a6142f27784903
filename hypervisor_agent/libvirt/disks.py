"""Disk images, by qemu-img. Every function makes its result whole or not at all: it works beside it and renames.

A cancelled order kills its qemu-img; what it left beside the result goes too.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.copying import Tell, copy_file, ignore, on_loop

GIB = 1 << 30
STDERR_LIMIT = 2000
RELEASE_POLL_SECONDS = 0.1
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")


async def create_overlay(disk: Path, source: Path, source_format: str, size_gb: int) -> None:
    """A disk that begins as the image and is as large as the flavor says (never smaller than the image)."""
    known = await info(source, source_format)
    size = max(size_gb * GIB, int(known["virtual-size"]))
    with _made_beside(disk, "new") as fresh:
        await qemu_img("create", "-q", "-f", "qcow2", "-b", source, "-F", source_format, fresh, size)


async def grow(disk: Path, size_gb: int) -> None:
    """Make a disk that nobody uses at least that large; a larger one stays."""
    known = await info(disk)
    if int(known["virtual-size"]) < size_gb * GIB:
        await qemu_img("resize", "-q", "-f", known["format"], disk, size_gb * GIB)


async def set_size(disk: Path, disk_format: str, size: int) -> None:
    """Make a disk that nobody uses exactly so many bytes large; what is beyond is lost."""
    if int((await info(disk, disk_format))["virtual-size"]) != size:
        await qemu_img("resize", "-q", "--shrink", "-f", disk_format, disk, size)


async def flatten(disk: Path, disk_format: str, target: Path, tell: Tell = ignore) -> None:
    """Write a qcow2 of its own, without a backing file, of a disk that nobody writes to."""
    with _made_beside(target, "part") as fresh:
        await qemu_img("convert", "-p", "-U", "-f", disk_format, "-O", "qcow2", disk, fresh, tell=tell)


async def flat_size(disk: Path, disk_format: str) -> int:
    """How many bytes a copy of the disk without a backing file takes."""
    text = await qemu_img("measure", "-U", "-f", disk_format, "-O", "qcow2", "--output=json", disk)
    return int(msgspec.json.decode(text, type=dict[str, Any])["required"])


def must_fit(needed: int, folder: Path) -> None:
    """Raise `OrderFailed` when so many bytes have no room in the folder."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OrderFailed(
            "no_disk_space",
            f"The disk of {folder} is full: the copy needs {needed >> 20} MiB, {free >> 20} MiB are free. "
            "Delete images or servers and try again.",
        )


async def copy_into(source: Path, source_format: str, target: Path, target_format: str, tell: Tell = ignore) -> None:
    """Copy a disk over an existing one (`target` keeps its size and name)."""
    await qemu_img("convert", "-p", "-n", "-f", source_format, "-O", target_format, source, target, tell=tell)


async def refill(
    disk: Path, disk_format: str, source: Path, source_format: str, size_gb: int, tell: Tell = ignore
) -> None:
    """Give a disk that nobody uses the content of another, at its own size."""
    fresh = disk.with_name(f".{disk.name}.new")
    try:
        await qemu_img("convert", "-p", "-f", source_format, "-O", disk_format, source, fresh, tell=tell)
        await qemu_img("resize", "-q", "-f", disk_format, fresh, size_gb * GIB)
        fresh.replace(disk)
    finally:
        fresh.unlink(missing_ok=True)


async def copy(disk: Path, target: Path, tell: Tell = ignore) -> None:
    with _made_beside(target, "new") as fresh:
        await asyncio.to_thread(copy_file, disk, fresh, on_loop(tell))


@contextmanager
def _made_beside(target: Path, suffix: str) -> Iterator[Path]:
    """The name to work under: it becomes the target's in the end, or nothing."""
    fresh = target.with_name(f"{target.name}.{suffix}")
    try:
        yield fresh
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


async def released(disk: Path, seconds: float) -> None:
    """Wait until no other process has the disk open for writing. Raises `OrderFailed` when one still has after that."""
    limit = time.monotonic() + seconds
    while True:
        try:
            await qemu_img("info", "--output=json", disk)
            return
        except OrderFailed as error:
            if "lock" not in error.fault.message or time.monotonic() > limit:
                raise
        await asyncio.sleep(RELEASE_POLL_SECONDS)


def existing(path: str, code: str, message: str) -> Path:
    """The path made absolute. Raises `OrderFailed` with that code and message when nothing is there."""
    found = Path(path).absolute()
    if not found.exists():
        raise OrderFailed(code, message)
    return found


async def info(disk: Path, disk_format: str | None = None) -> dict[str, Any]:
    chosen = ("-f", disk_format) if disk_format else ()
    text = await qemu_img("info", "-U", *chosen, "--output=json", disk)
    return msgspec.json.decode(text, type=dict[str, Any])


async def qemu_img(*arguments: object, tell: Tell = ignore) -> str:
    """What it printed. With `-p` among the arguments `tell` is told how far it is. Raises `OrderFailed`."""
    words = [str(argument) for argument in arguments]
    process = await asyncio.create_subprocess_exec(
        "qemu-img",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        out, err = await asyncio.gather(_output(process.stdout, tell), process.stderr.read())
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        text = err.decode(errors="replace").strip()[-STDERR_LIMIT:]
        full = "No space left" in text
        message = "The host's disk is full. Delete servers or images, or use another host." if full else text
        raise OrderFailed("no_disk_space" if full else "disk_failed", message, f"qemu-img {' '.join(words)}: {text}")
    return out.decode()


async def _output(stream: asyncio.StreamReader, tell: Tell) -> bytes:
    text = b""
    while data := await stream.read(4096):
        text += data
        if told := _PERCENT.findall(text):
            tell(float(told[-1]))
            text = text[text.rindex(b"%)") :]
    return text
