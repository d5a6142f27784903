"""The rules against Nova's: every guard and acceptance of commands.json, cell by cell."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.machine import BEFORE_CREATE, MACHINE, PHASES, UNCHANGED, Pair
from domain.machine.rule import ANY_TASK_STATE, ANY_VM_STATE
from domain.states import TASK_STATES, VM_STATES

SPEC = Path(__file__).parents[1] / "conformance/spec"
NOVA: dict[str, dict[str, Any]] = {
    command["id"]: command for command in json.loads((SPEC / "commands.json").read_text(encoding="utf-8"))["commands"]
}
REMOVED = {"reset-network"}


def vm_states(guards: dict[str, Any]) -> set[str]:
    return set(ANY_VM_STATE) if guards["vm_states"] == "any" else set(guards["vm_states"])


def task_states(guards: dict[str, Any]) -> set[str | None]:
    given = guards["task_states"]
    if given == "any":
        return set(ANY_TASK_STATE)
    if isinstance(given, str):
        names = given.removeprefix("not in [").removesuffix("]").split(", ")
        assert set(names) < set(TASK_STATES)
        return set(ANY_TASK_STATE) - set(names)
    return set(given)


def after(accept: dict[str, Any], task_state: str | None) -> str | None:
    written = accept["task_state"]
    return task_state if isinstance(written, str) and written.startswith("unchanged") else written


def test_the_commands_are_novas() -> None:
    assert {rule.id for rule in MACHINE.commands.values() if not rule.internal} == set(NOVA)
    assert [rule.id for rule in MACHINE.commands.values() if rule.internal] == [
        "power-sync",
        "extend-volume",
        "snapshot-volume",
        "settle",
    ]


@pytest.mark.parametrize("command", NOVA)
def test_every_cell(command: str) -> None:
    nova, rule = NOVA[command], MACHINE.rule(command)
    guards = nova["guards"]
    for vm_state in VM_STATES:
        for task_state in (None, *TASK_STATES):
            legal = vm_state in vm_states(guards) and task_state in task_states(guards) and command not in REMOVED
            reached = MACHINE.accept(command, vm_state, task_state)
            assert (reached is not None) == legal, (vm_state, task_state)
            if reached is not None:
                assert reached[1] == after(nova["accept"], task_state)
                assert reached[0] == (vm_state if rule.accept_vm_states == (UNCHANGED,) else rule.accept_vm_states[0])


@pytest.mark.parametrize("command", NOVA)
def test_what_else_the_guard_asks(command: str) -> None:
    guards, guard = NOVA[command]["guards"], MACHINE.rule(command).guard
    assert guard.launched == guards["must_have_launched"]
    assert guard.lock_checked == guards["lock_checked"]
    assert (guard.host is not None, guard.host == "up") == (guards["host_must_be_set"], guards["host_must_be_up"])
    assert MACHINE.rule(command).policy == NOVA[command]["policy"][0]["default"]


@pytest.mark.parametrize("command", NOVA)
def test_vm_state_that_acceptance_sets(command: str) -> None:
    written = (NOVA[command]["accept"] or {}).get("vm_state", UNCHANGED)
    assert MACHINE.rule(command).accept_vm_states == tuple(written.split(" | "))


@pytest.mark.parametrize("command", sorted(set(NOVA) - {"refresh-network"}))
def test_names_in_the_history(command: str) -> None:
    """refresh-network is left out: a network event records nothing, Nova's row lists what other external events do."""
    nova, rule = NOVA[command], MACHINE.rule(command)
    events = [name.split(" (")[0] for entry in nova["events"] for name in entry.split(" | ")]
    if command == "live-migrate":
        events.remove("conductor_migrate_server")  # only before microversion 2.34, where the call waits
    assert rule.action == nova["action"]
    assert list(rule.events) == events


@pytest.mark.parametrize("command", sorted(set(NOVA) - REMOVED))
def test_the_path_is_novas(command: str) -> None:
    """Every task_state that Nova's workflow writes is on the path, in Nova's order; and no other is."""
    rule = MACHINE.rule(command)
    written = [step["task_state"] for step in NOVA[command]["flow"] if step.get("task_state")]
    expected = list(dict.fromkeys(name for name in written if name != rule.accept_task_state))
    assert list(rule.path) == expected


@pytest.mark.parametrize("command", sorted(set(NOVA) - REMOVED))
def test_success_ends_where_novas_does(command: str) -> None:
    """The fixed vm_states that Nova's success names, read from the beginning of its sentence."""
    wanted = NOVA[command]["success"].get("vm_state", UNCHANGED).split(" by default")[0]
    leaves = MACHINE.outcome_vm_states(command, "succeeded")
    if command == "reset-state":
        leaves = frozenset(MACHINE.rule(command).accept_vm_states)
    if command == "restore":
        leaves -= {"shelved_offloaded"}  # of a server on no host, which Nova calls active though it has no guest
    if wanted.startswith("unchanged"):
        assert leaves == {UNCHANGED}
    else:
        assert leaves
        assert all(name in NOVA[command]["success"]["vm_state"] for name in leaves)


def test_every_open_command_has_a_deadline_and_a_failure() -> None:
    for rule in MACHINE.commands.values():
        assert set(rule.outcomes) <= set(PHASES)
        assert rule.instant == (not rule.outcomes.get("failed"))
        assert rule.instant or 0 < rule.deadline_seconds <= 1800
        if rule.accept_task_state not in (None, UNCHANGED):
            assert not rule.instant, f"{rule.id} sets a task_state and must be an open operation"


def test_reachable_pairs_are_novas() -> None:
    """Walk every transition from nothing. Where we reach more or less than Nova's own list, the reason is known."""
    nova = {
        (pair["vm_state"], pair["task_state"])
        for pair in json.loads((SPEC / "states.json").read_text(encoding="utf-8"))["reachable_pairs"]["pairs"]
    }
    reached: set[Pair] = set()
    todo: list[Pair] = [BEFORE_CREATE]
    while todo:
        pair = todo.pop()
        if pair in reached:
            continue
        reached.add(pair)
        for event in MACHINE.event_types:
            todo += MACHINE.after(event, pair)
    power_sync: set[Pair] = {("paused", "powering-off"), ("stopped", "powering-off")}  # not a command of Nova's list
    assert reached - nova == power_sync
    assert nova - reached == set()
