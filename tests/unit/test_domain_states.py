"""The vocabulary of states and the status of every pair, compared with what Nova does."""

import json
from pathlib import Path

import pytest

from domain.states import (
    FAULT_SHOWN,
    POWER_STATES,
    PROGRESS_SHOWN,
    TASK_STATES,
    VM_STATES,
    status,
    statuses_to_states,
)

NOVA = json.loads((Path(__file__).parents[1] / "conformance/spec/states.json").read_text(encoding="utf-8"))
FULL_MAP = {
    (vm_state, None if task_state == "null" else task_state): shown
    for vm_state, tasks in NOVA["status"]["full_map"].items()
    for task_state, shown in tasks.items()
}


def test_names_are_novas() -> None:
    assert set(VM_STATES) == set(NOVA["vm_states"])
    assert set(TASK_STATES) == set(NOVA["task_states"])
    assert {power["name"]: power["value"] for power in NOVA["power_states"]} == POWER_STATES
    assert set(NOVA["progress"]["shown_when_status_in"]) == PROGRESS_SHOWN
    assert set(NOVA["fault"]["shown_when_status_in"]) == FAULT_SHOWN


def test_status_of_all_516_pairs() -> None:
    assert len(FULL_MAP) == 516
    assert {pair: status(*pair) for pair in FULL_MAP} == FULL_MAP


def test_unknown_vm_state_is_unknown() -> None:
    assert status("lost", None) == "UNKNOWN"
    assert status("lost", "rebuilding") == "UNKNOWN"


@pytest.mark.parametrize("shown", sorted(set(FULL_MAP.values())))
def test_filter_by_status_finds_exactly_the_pairs_that_show_it(shown: str) -> None:
    found = {
        (vm_state, task_state)
        for vm_state, tasks in statuses_to_states(shown)
        for task_state in (tasks if tasks is not None else (None, *TASK_STATES))
    }
    assert found == {pair for pair, value in FULL_MAP.items() if value == shown}


def test_a_status_nobody_shows_matches_nothing() -> None:
    assert statuses_to_states("NO_SUCH_STATUS") == []
    assert statuses_to_states("UNKNOWN") == []
