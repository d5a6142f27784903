"""One direction, no back doors: in the sources there is one place that appends to the log."""

from __future__ import annotations

import re
from pathlib import Path

ROOMS = ("domain", "eventlog", "commands", "projections", "hypervisor_agent", "api", "cli", "tools")
ROOT = Path(__file__).parents[2]
APPENDS = re.compile(r"log\.append\(|\bput_at\(")
ALLOWED = {
    "commands/appending.py": 1,  # every command
    "eventlog/log.py": 1,  # the definition of put_at
    "eventlog/archive.py": 1,  # a restored log gets the commits it had
    "cli/bench/histories.py": 1,  # a benchmark's own histories, on a log of its own
    "eventlog/persistence.py": 1,  # the same stream under the eventsourcing library's interface, for tools and tests
}


def test_only_commands_append_to_the_log() -> None:
    found: dict[str, int] = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            hits = sum(bool(APPENDS.search(line)) for line in path.read_text().splitlines())
            if hits:
                found[str(path.relative_to(ROOT))] = hits
    assert found == ALLOWED
