"""`chronova bench`: every scenario runs, once and small, against the real system. No figure is asserted."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from cli.bench import report
from cli.bench.run import main
from cli.errors import Stop

# Those that can run everywhere; `boot` needs QEMU and the time of a guest.
SCENARIOS = ("append", "accept", "lifecycle", "create", "read", "replay", "as-of", "scale", "idle")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_measures_something(scenario: str, tmp_path: Path) -> None:
    told = io.StringIO()
    kept = tmp_path / "figures" / "bench.json"
    made = main([scenario], json_path=kept, quick=True, directory=tmp_path, console=Console(file=told, width=200))
    assert {line.scenario for line in made.lines} == {scenario}
    assert all(spread.min >= 0 for line in made.lines for spread in line.figures.values())
    assert msgspec.json.decode(kept.read_bytes(), type=report.Report) == made
    assert all(line.what in told.getvalue() for line in made.lines)
    assert "fsync always" in told.getvalue()
    if scenario == "accept":
        locks = [line for line in made.lines if line.what.startswith("lock")]
        assert len(locks) == 3
        assert all(line.figures["of_limit"].median > 0 for line in locks)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    main(["append"], quick=True, directory=tmp_path, console=Console(file=io.StringIO()))
    assert not list(tmp_path.iterdir())


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(Stop, match="there is no scenario speed"):
        main(["speed"])
