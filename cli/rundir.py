"""Who runs on a data directory: the lock that lets one `up` in, and the note where its processes and addresses are.

`DATA/lock` is held by the supervisor for its life (flock: gone with the process). `DATA/run/up.json` says what runs:
base_url, NATS, the pids. A note whose supervisor is gone is stale; `leftovers` names its processes that still live,
which must have ended before a new start touches the same files. `DATA/run/log.json` stays when it is stopped: where the
log, its archive and the read models are that the last start used.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from cli import data_dir
from cli.errors import Stop


class DataLock:
    """The exclusive use of a data directory. Made by `take`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, data: Path) -> DataLock:
        """Raises Stop if another process has it, or if the directory can not be used."""
        data_dir.claim(data)
        try:
            descriptor = os.open(lock_path(data), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise data_dir.not_usable(data, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise Stop(
                f"chronova already runs on {data} (pid {holder}): stop it first, or take another directory with --data"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        os.close(self._descriptor)


def write_json(path: Path, content: dict[str, Any], mode: int = 0o600) -> None:
    """Atomically: a reader sees the old file, the new one, or none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    os.replace(fresh, path)


def lock_path(data: Path) -> Path:
    return data / "lock"


def note_path(data: Path) -> Path:
    return data / "run" / "up.json"


def last_log_path(data: Path) -> Path:
    return data / "run" / "log.json"


def read_note(data: Path) -> dict[str, Any] | None:
    """What the last `up` noted; null if there is no note."""
    try:
        note = json.loads(note_path(data).read_text())
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def last_log(data: Path) -> dict[str, Any]:
    """What the last `up` noted: `nats`, the addresses of its log, none if that is in the directory; `database` and
    `archive`, null if they are in the directory.
    """
    try:
        note = json.loads(last_log_path(data).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def running(data: Path) -> dict[str, Any] | None:
    """The note of the `up` that runs on this directory now; null if none does."""
    note = read_note(data)
    if note is None or not alive(note["pids"]["supervisor"], note["started"]["supervisor"]):
        return None
    return note


def leftovers(data: Path) -> list[int]:
    """Processes of a start whose supervisor is gone."""
    note = read_note(data)
    if note is None:
        return []
    return [pid for role, pid in note["pids"].items() if alive(pid, note["started"][role])]


def started_at(pid: int) -> int:
    """When a process started, in the kernel's clock ticks; with the pid it names a process for ever. 0: none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def alive(pid: int, started: int) -> bool:
    return started != 0 and started_at(pid) == started
