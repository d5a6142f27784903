"""Under what conditions figures were taken: versions, commit, cores, disk, load."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from eventlog.nats_server import find_nats_server

PACKAGES = ("chronova", "nats-py", "starlette", "uvicorn", "uvloop", "SQLAlchemy", "msgspec")
PROJECT = Path(__file__).resolve().parent.parent.parent


class Conditions(msgspec.Struct, frozen=True):
    """Load averages are those of the last minute before and after: with more than the cores it was not alone."""

    started_at: datetime
    commit: str
    python: str
    packages: dict[str, str]
    nats_server: str
    system: str
    cores: int
    memory_mib: int
    disk: str
    sync: str
    runs: int
    quick: bool
    load_before: float
    load_after: float = 0.0


def conditions(sync: str, runs: int, quick: bool, directory: Path | None) -> Conditions:
    return Conditions(
        started_at=datetime.now(UTC),
        commit=_commit(),
        python=sys.version.split()[0],
        packages={name: version(name) for name in PACKAGES},
        nats_server=_output([str(find_nats_server()), "--version"]),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        disk=_file_system(directory or Path(tempfile.gettempdir())),
        sync=sync,
        runs=runs,
        quick=quick,
        load_before=os.getloadavg()[0],
    )


def _commit() -> str:
    """The checkout's commit, with a + if files differ from it; the package's version outside a checkout."""
    commit = _output(["git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD"])
    if not commit:
        return f"release {version('chronova')}"
    return commit + ("+" if _output(["git", "-C", str(PROJECT), "status", "--porcelain", "--untracked=no"]) else "")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except OSError:
        return ""


def _file_system(path: Path) -> str:
    """The type of the file system that holds a path: on tmpfs an fsync costs nothing."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        place, kind = line.split()[1:3]
        if Path(place) in (path, *path.parents) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]
