"""docs/restarts.md names, for each of Nova's weaknesses, tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|\n ").split("|")]
    for line in (ROOT / "docs/restarts.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and "seen by" not in line and "---" not in line
]
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_every_weakness_has_its_row() -> None:
    assert [row[0] for row in ROWS if re.fullmatch(r"W\d+", row[0])] == [f"W{number}" for number in range(1, 16)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].replace(" ", "-"))
def test_the_tests_of_a_row_exist(row: list[str]) -> None:
    named = re.findall(r"test_\w+", row[-1])
    assert named
    assert [name for name in named if name not in TESTS] == []
    assert re.sub(r"guest:|test_\w+|[ ,]", "", row[-1]) == ""
