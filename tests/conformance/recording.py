"""The recorded answers, as they were taken from a running Nova (see recorded/README.md). Never edited."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Cell:
    """In `state`, `actor` sends `request`: what Nova answered, and what became of the server."""

    number: int
    section: str
    state: str
    action: str
    actor: str
    microversion: str
    request: dict[str, Any]
    code: int
    body: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    new_actions: list[dict[str, Any]]
    step: int | None

    @property
    def name(self) -> str:
        return f"{self.section}/{self.state}/{self.action}/{self.actor}" + (
            "" if self.step is None else f"/{self.step}"
        )

    @property
    def refused(self) -> bool:
        return self.code >= 400

    @property
    def changes_nothing(self) -> bool:
        """Whether the server is afterwards as it was before, so that another cell may use it."""
        return self.refused or self.request["method"] == "GET"


def cells() -> list[Cell]:
    recorded = json.loads((RECORDED / "cells.json").read_bytes())["cells"]
    names = Cell.__dataclass_fields__.keys() - {"number", "step"}
    return [
        Cell(number=number, step=one.get("step"), **{name: one[name] for name in names})
        for number, one in enumerate(recorded)
    ]


def bodies() -> dict[str, dict[str, Any]]:
    """Full requests and answers by `name@microversion`."""
    found: dict[str, dict[str, Any]] = json.loads((RECORDED / "bodies.json").read_bytes())
    return found
