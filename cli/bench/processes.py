"""What processes cost: CPU seconds and memory, from /proc, children included.

Processes that ended between two looks are not in the second sum; nothing that is measured here starts and ends
processes while it is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def family(pids: Iterable[int]) -> set[int]:
    """The processes and all their descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    todo = [pid for pid in pids if _stat(pid)]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes so far (resolution 10 ms each)."""
    return sum((int(fields[11]) + int(fields[12])) / _TICK for pid in pids if (fields := _stat(pid)))


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory: private pages, and of shared ones each process's part. Processes of others are counted as 0."""
    return sum(_smaps(pid).get("Pss", 0) for pid in pids)


def _smaps(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
