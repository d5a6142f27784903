"""The range of the network that a new system starts with: one that nothing on this machine uses.

Systems on one machine each have a bridge with an address of their own range. A range is taken when a route leads there
or when another system holds it: a system holds its range as long as its API runs, by a lock on a file that is named
after the range and the network namespace, so one that has no guest yet is seen too, and a killed one holds nothing.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import struct
from pathlib import Path

LOCKS = Path("/run/chronova-subnets")
ROUTES = Path("/proc/net/route")
RANGES = tuple(f"10.{second}.0.0/16" for second in range(90, 255))
_held: dict[Path, int] = {}  # until this process ends


def free_range(locks: Path = LOCKS, routes: Path = ROUTES) -> str:
    """The first range that is free, which this process holds from now on; the first of all where none is."""
    used = _routed(routes)
    for cidr in RANGES:
        network = ipaddress.IPv4Network(cidr)
        if not any(network.overlaps(one) for one in used) and hold(cidr, locks):
            return cidr
    return RANGES[0]


def hold(cidr: str, locks: Path = LOCKS) -> bool:
    """Hold a range until this process ends. False: another process does. Where no lock can be made all are free."""
    try:
        namespace = os.stat("/proc/self/ns/net").st_ino
        path = locks / f"{namespace}-{cidr.replace('/', '_')}"
        if path in _held:
            return True
        locks.mkdir(mode=0o755, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    _held[path] = handle
    return True


def _routed(routes: Path) -> list[ipaddress.IPv4Network]:
    """The networks that this machine has routes to, but for the default route."""
    found = []
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return []
    for line in lines:
        words = line.split()
        network, mask = (struct.pack("=I", int(words[column], 16)) for column in (1, 7))
        if any(mask):
            found.append(ipaddress.IPv4Network((network, str(ipaddress.IPv4Address(mask)))))
    return found
