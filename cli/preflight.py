"""What can be known to be wrong before anything starts: told at once, in one line, instead of by a role that retries.

A value that can not be one ends with exit code 2, a database or NATS that does not answer with 1 and what to do.
"""

from __future__ import annotations

import asyncio
import re
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import click

from cli.errors import Stop

NATS_SECONDS = 6.0
CONNECT_SECONDS = 2.0
DATABASE_SECONDS = 5
PAUSE_SECONDS = 0.1
NATS_PORT = 4222
_DURATION = re.compile(r"(?=.*[1-9])\d+(\.\d+)?(ms|s|m|h)")
_SCHEMES = ("nats", "tls", "ws", "wss")


def sync_interval(_: click.Context, __: click.Parameter, value: str) -> str:
    """always, default or a duration."""
    if value not in ("always", "default") and not _DURATION.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not always, default or a duration such as 2s.")
    return value


def nats_urls(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    urls = split(value)
    for url in urls:
        if _place(url) is None:
            raise click.BadParameter(f"{url!r} is no address of a NATS server such as nats://host:4222.")
    return urls


def split(value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if value else ()


def database_url(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from projections.database import parse

    try:
        parse(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no database ({error}). Write sqlite:////path/file.db or postgresql://user@host/name."
        ) from error
    return value


def nats_must_answer(urls: tuple[str, ...], hint: str = "mend --nats") -> None:
    """Wait a little for one of them. Raises Stop."""
    deadline = time.monotonic() + NATS_SECONDS
    while True:
        why = ""
        for url in urls:
            try:
                socket.create_connection(_place(url) or ("", 0), CONNECT_SECONDS).close()
            except OSError as error:
                why = error.strerror or str(error)
            else:
                return
        if time.monotonic() > deadline:
            raise Stop(f"no NATS server answers at {', '.join(map(_shown, urls))} ({why}): start it, or {hint}")
        time.sleep(PAUSE_SECONDS)


def nats_must_replicate(urls: tuple[str, ...], replicas: int | None) -> None:
    """Keep the log on so many servers from now on. Raises Stop if there are too few; None: it stays as it is."""
    if replicas is None:
        return
    from eventlog.errors import LogError
    from eventlog.log import EventLog

    async def ask() -> None:
        await (await EventLog.open(list(urls), replicas=replicas)).close()

    try:
        asyncio.run(ask())
    except LogError as error:
        raise Stop(str(error)) from error


def database_must_answer(url: str) -> None:
    """Raises Stop if its file can not be made, or its server does not let us in."""
    from projections.database import ReadModelUnavailable, must_answer

    try:
        must_answer(url, DATABASE_SECONDS)
    except ReadModelUnavailable as error:
        raise Stop(f"{error}, or mend --database") from error


def archive_must_take(directory: Path) -> None:
    """Make the directory of the archive, and write to it. Raises Stop."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        why = error.strerror or str(error)
        raise Stop(f"the archive can not be written to {directory} ({why}): make it, or mend --archive") from error


def _place(url: str) -> tuple[str, int] | None:
    """Host and port of a NATS address; None if it is none."""
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        port = parts.port or NATS_PORT
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not parts.hostname or not re.fullmatch(r"[\w.:%-]+", parts.hostname):
        return None
    return parts.hostname, port


def _shown(url: str) -> str:
    """Without the password that may be in it."""
    return url.rpartition("@")[2]
