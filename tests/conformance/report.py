"""Runs the whole replay and shows what came of it: `python -m tests.conformance.report [--write]`.

`--write` puts the table into docs/conformance.md. Exit code 1 when something differs without a reason, when a reason
covers nothing, or when a recorded case was not tried.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from tests.conformance.bodies import BodiesReplay
from tests.conformance.deployment import running
from tests.conformance.differences import DIFFERENCES, Difference, explained
from tests.conformance.findings import Finding
from tests.conformance.recording import bodies, cells
from tests.conformance.replay import Replay

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
SECTIONS = {
    "states": "settled states",
    "locked": "locked servers",
    "policy": "roles and projects",
    "missing": "servers that are not there",
    "bodies": "bad bodies",
    "create": "creation",
    "sequences": "sequences of commands",
    "hostdown": "hosts that are down",
    "frozen": "transitional states",
    "bodies.json": "full bodies at several microversions",
}


@dataclass
class Result:
    """`tried`: names of cases by section. `missing`: cases that could not be tried, with the reason."""

    tried: dict[str, set[str]]
    recorded: dict[str, int]
    findings: list[Finding]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def unexplained(self) -> list[Finding]:
        return [one for one in self.findings if explained(one) is None]

    @property
    def unused(self) -> list[Difference]:
        used = {explained(one) for one in self.findings}
        return [one for one in DIFFERENCES if one not in used]

    @property
    def untried(self) -> int:
        return sum(self.recorded.values()) - sum(len(names) for names in self.tried.values())

    def differing(self, section: str) -> set[str]:
        return {one.cell for one in self.findings if one.section == section}


async def run(directory: Path) -> Result:
    """Start a deployment in `directory` and replay everything against it."""
    async with running(directory) as deployment:
        full = BodiesReplay(deployment)
        await full.run()
        replay = Replay(deployment)
        outcome = await replay.run(cells())
    recorded = Counter(cell.section for cell in cells()) | Counter({"bodies.json": len(bodies())})
    tried: dict[str, set[str]] = {section: set() for section in SECTIONS}
    for cell in outcome.tried:
        tried[cell.section].add(cell.name)
    tried["bodies.json"] = {f"body/{name}" for name in full.tried}
    return Result(tried, dict(recorded), [*full.findings, *outcome.findings], outcome.missing)


def render(result: Result) -> str:
    """The document. The same result always gives the same text."""
    lines = [
        "# Conformance with Nova",
        "",
        "Recorded answers of a real Nova 34 (`tests/conformance/recorded`), replayed against chronova with the",
        "simulated driver: status code, error sentence, fields of the body, the server's states afterwards, and the",
        "actions and events that its history gained. Written by `python -m tests.conformance.report --write`; a test",
        "keeps it true.",
        "",
        "| what | recorded | tried | equal | different on purpose |",
        "|---|---|---|---|---|",
    ]
    totals = [0, 0, 0, 0]
    for section, title in SECTIONS.items():
        tried, different = len(result.tried[section]), len(result.differing(section))
        row = [result.recorded[section], tried, tried - different, different]
        totals = [one + other for one, other in zip(totals, row, strict=True)]
        lines.append(f"| {title} | " + " | ".join(map(str, row)) + " |")
    lines.append("| all | " + " | ".join(map(str, totals)) + " |")
    lines += ["", "## Differences on purpose", "", "| difference | reason | cases |", "|---|---|---|"]
    for difference in DIFFERENCES:
        covered = sorted({one.cell for one in result.findings if explained(one) is difference})
        lines.append(f"| {difference.name} | {difference.reason} | {', '.join(covered)} |")
    if result.missing:
        lines += ["", "## Not tried", ""]
        lines += [f"- {name}: {why}" for name, why in sorted(result.missing.items())]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as directory:
        result = asyncio.run(run(Path(directory)))
    text = render(result)
    print(text)
    for finding in result.unexplained:
        print(f"UNEXPLAINED {finding}")
    for difference in result.unused:
        print(f"COVERS NOTHING {difference.name}")
    if "--write" in arguments:
        DOCUMENT.write_text(text)
    return 1 if result.unexplained or result.unused or result.untried else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
