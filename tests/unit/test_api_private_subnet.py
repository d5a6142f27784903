"""The range of a new system's network: free of routes, and of other systems that only just began."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from api.private_subnet import RANGES, free_range, hold

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
# What Linux shows of a default route, of 10.90.0.0/16 on a bridge, and of 10.92.7.0/24.
ROUTES = (
    "eth0\t00000000\t0100020A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "cv-1\t00005A0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    "eth1\t00075C0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)
HOLD_AND_WAIT = """
import sys
from pathlib import Path
from api.private_subnet import hold
print(hold(sys.argv[1], Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


def test_ranges_with_routes_and_holders_are_passed_over(tmp_path: Path) -> None:
    routes, locks = tmp_path / "route", tmp_path / "locks"
    routes.write_text(HEADER + ROUTES)
    command = [sys.executable, "-c", HOLD_AND_WAIT, "10.91.0.0/16", str(locks)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "True"
        assert not hold("10.91.0.0/16", locks)
        assert free_range(locks, routes) == "10.93.0.0/16"  # 91 is held, 90 and a part of 92 are routed
        other.kill()
    assert hold("10.91.0.0/16", locks)  # a killed system holds nothing
    assert hold("10.91.0.0/16", locks)  # nor is a range in its holder's own way


def test_without_routes_or_locks_it_is_the_first(tmp_path: Path) -> None:
    assert free_range(tmp_path / "missing" / "locks", tmp_path / "no routes") == RANGES[0] == "10.90.0.0/16"
