"""docs/configuration.md names every key of the configuration file's tables, with its default."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.services import ApiSettings
from cli.options import KNOWN
from cli.settings import DRIVERS, check, read_config
from commands.settings import CommandSettings
from hypervisor_agent.driver import OPTIONS
from hypervisor_agent.simulated import Capacity
from hypervisor_agent.simulated_faults import FailureRule

TEXT = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
# What the program itself fills in.
FIXED = {CommandSettings: {"images_dir", "volumes_dir", "seal", "unseal"}, ApiSettings: {"data_dir"}}


def rows(after: str) -> dict[str, list[str]]:
    """The first table after a line, by key."""
    table = TEXT[TEXT.index(after) :].partition("|---|")[2].partition("\n\n")[0]
    cells = [[one.strip() for one in line.strip("|").split(" | ")] for line in table.splitlines()[1:]]
    return {row[0].strip("| `"): row[1:] for row in cells}


def written(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize(
    ("table", "kind"), [("commands", CommandSettings), ("api", ApiSettings)], ids=["commands", "api"]
)
def test_every_key_of_a_table_has_its_row(table: str, kind: type[Any]) -> None:
    known = {one.name: one.default for one in fields(kind) if one.name not in FIXED[kind]}
    assert MISSING not in known.values()
    told = {key: row[0].strip("`") for key, row in rows(f"## [{table}]").items()}
    assert told == {key: written(default) for key, default in known.items()}


def test_every_option_of_a_driver_has_its_row() -> None:
    told = {key: set(row[1].split(", ")) for key, row in rows("## [driver]").items()}
    assert told == {
        key: {name for name, options in OPTIONS.items() if key in options} for key in set().union(*OPTIONS.values())
    }
    sentence = TEXT[TEXT.index("`kind` is the driver") :].partition("(")[0]
    assert set(re.findall(r"`([a-z-]+)`", sentence)) == {"kind", *DRIVERS}


def test_every_key_of_a_failure_and_of_the_capacity_is_told() -> None:
    failures = rows("One of `failures`")
    assert list(failures) == [one.name for one in msgspec.structs.fields(FailureRule)]
    assert failures["code"][0].strip("`") == FailureRule().code
    capacity = rows("## [driver]")["capacity"][-1]
    assert re.findall(r"`(\w+)`", capacity) == [one.name for one in msgspec.structs.fields(Capacity)]


def test_the_file_that_is_shown_is_taken(tmp_path: Path) -> None:
    shown = tmp_path / "chronova.toml"
    shown.write_text(TEXT.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    values, tables = read_config(shown, KNOWN)
    check(tables, values["driver"])
    assert (values, tables.commands) == ({"hosts": 2, "driver": "simulated"}, {"reclaim_seconds": 3600})
