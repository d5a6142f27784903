"""A name for this process that no other one ever has, and whether the process of such a name has ended.

Only about processes that can be seen from here, of the same boot and process namespace, is anything said to have ended.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from cli import rundir


def name() -> str:
    return "/".join((socket.gethostname(), *_place(), str(os.getpid()), str(rundir.started_at(os.getpid()))))


def has_ended(other: str) -> bool:
    parts = other.split("/")
    if len(parts) != 5 or tuple(parts[1:3]) != _place() or not (parts[3] + parts[4]).isdigit():
        return False
    return not rundir.alive(int(parts[3]), int(parts[4]))


def _place() -> tuple[str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, str(os.stat("/proc/self/ns/pid").st_ino)
