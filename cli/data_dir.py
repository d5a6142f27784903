"""The data directory itself: that it is one, that it is marked as one, and that only its owner reads what is in it."""

from __future__ import annotations

import os
from pathlib import Path

from cli.errors import Stop

MARK = ".chronova"
MARK_TEXT = "A data directory of chronova. See the part on operations of its documentation.\n"
# What a directory without a mark may hold: parts that somebody brought along, and what a new file system has.
PARTS = {"nats", "archive", "images", "volumes", "agents", "keys", "logs", "run", "lock"}
PARTS |= {"passwords.json", "clouds.yaml", "ready.json", "lost+found"}
# What only chronova makes: a directory of a version that did not mark its own.
OURS = ("nats/jetstream", "read-models.db", "keys/secrets", "agents/journal.db")
LOG_STREAM = "CHRONOVA_LOG"  # eventlog.log.DEFAULT_STREAM, without loading all that the log needs
FOLDERS = ("nats", "archive", "images", "volumes", "agents", "keys", "logs", "run")
READ = ("passwords.json", "keys/tokens", "keys/secrets", "keys/checkpoint.*", "keys/nats-*")
WRITTEN = (
    *("lock", "read-models.db*", "clouds.yaml", "run/*.json", "logs/*.log"),
    *("agents/journal.db", "agents/*/journal.db"),
    *("nats/lock", "nats/port", "nats/nats-server.conf"),
)


def must_be_ours(data: Path) -> None:
    """Raises Stop for a directory of something else. Writes nothing."""
    try:
        names = {path.name for path in data.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise not_usable(data, error) from error
    if MARK in names or any((data / one).exists() for one in OURS) or any(data.glob("agents/*/journal.db")):
        return
    strange = sorted(name for name in names if name not in PARTS)
    if strange:
        raise Stop(
            f"{data} holds something else ({', '.join(strange[:3])}{', ...' if len(strange) > 3 else ''}): "
            "choose an empty or a new directory with --data"
        )


def claim(data: Path) -> None:
    """Make the directory, if there is none, and mark it. Raises Stop if it is something else or can not be used."""
    must_be_ours(data)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = data / MARK
        if not mark.exists():
            mark.write_text(MARK_TEXT)
    except OSError as error:
        raise not_usable(data, error) from error


def must_be_usable(data: Path) -> None:
    """Raises Stop for what has the name of a part and is none, or may not be used. Writes nothing.

    The archive is looked at by itself: it may be elsewhere, and the log is taken without it.
    """
    parts = [data, *(data / name for name in FOLDERS if name != "archive"), *data.glob("agents/host-*")]
    for folder in filter(Path.exists, parts):
        if not folder.is_dir():
            raise Stop(f"{folder} has to be a directory and is none: move it away")
        _may(folder, os.R_OK | os.W_OK | os.X_OK)
    for names, wanted in ((READ, os.R_OK), (WRITTEN, os.R_OK | os.W_OK)):
        for file in (file for name in names for file in data.glob(name)):
            if not file.is_file():
                raise Stop(f"{file} has to be a file and is none: move it away")
            _may(file, wanted)


def _may(path: Path, wanted: int) -> None:
    if not os.access(path, wanted, effective_ids=True):
        what = "read" if wanted == os.R_OK else "read and write"
        raise Stop(f"{_me()} may not {what} {path}: run this as its owner, or give it to {_me()}")


def keep_private(data: Path) -> None:
    """From now on this process and its children make files for their owner only; older ones are closed to others."""
    os.umask(0o077)
    try:
        for path in (*(data / name for name in FOLDERS), *data.glob("read-models.db*")):
            if path.exists() and not path.is_symlink() and path.stat().st_mode & 0o077:
                path.chmod(path.stat().st_mode & 0o700)
    except OSError as error:
        raise Stop(f"{error.filename} can not be closed to others: {error.strerror}; give it to {_me()}") from error


def not_usable(data: Path, error: OSError) -> Stop:
    return Stop(f"the data directory {data} can not be used: {error.strerror}; choose one with --data")


def _me() -> str:
    return f"user {os.geteuid()}"
