"""The table equals the statechart in every cell: the library runs each event in each of the 516 pairs."""

from collections.abc import Iterator

import pytest
from statemachine.exceptions import TransitionNotAllowed

from domain.machine import BEFORE_CREATE, MACHINE, Pair
from domain.machine.chart import Runner, signal
from domain.states import TASK_STATES, VM_STATES

PAIRS: list[Pair] = [(vm_state, task_state) for vm_state in VM_STATES for task_state in (None, *TASK_STATES)]


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner()


def table_row(pair: Pair) -> dict[str, Pair]:
    """Signal -> pair after it, as the table has it."""
    return dict(_row(pair))


def _row(pair: Pair) -> Iterator[tuple[str, Pair]]:
    for event in MACHINE.event_types:
        for transition in MACHINE.transitions(event):
            after = transition.apply(*pair)
            if after is not None:
                yield signal(event, transition.vm_after, transition.task_after), after


def test_the_chart_starts_before_create(runner: Runner) -> None:
    assert Runner().pair == BEFORE_CREATE


@pytest.mark.parametrize("vm_state", VM_STATES)
def test_table_and_chart_are_equal_in_every_cell(runner: Runner, vm_state: str) -> None:
    """The same events are legal (the chart's own guards say so), and each, when run, leads to the same pair."""
    for task_state in (None, *TASK_STATES):
        row = table_row((vm_state, task_state))
        assert runner.enabled(vm_state, task_state) == row.keys(), task_state
        for name, after in row.items():
            assert runner.fire(vm_state, task_state, name) == after, (task_state, name)


@pytest.mark.parametrize("command", [rule.id for rule in MACHINE.commands.values() if rule.exists and not rule.creates])
def test_acceptance_is_the_charts(runner: Runner, command: str) -> None:
    """The lookup of the hot path accepts exactly where the chart does."""
    rule = MACHINE.rule(command)
    name = signal(rule.event("accepted"), rule.accept_vm_states[0], rule.accept_task_state)
    for pair in PAIRS:
        assert (MACHINE.accept(command, *pair) is not None) == (name in table_row_names(pair)), pair


def table_row_names(pair: Pair) -> frozenset[str]:
    if pair not in _NAMES:
        _NAMES[pair] = frozenset(table_row(pair))
    return _NAMES[pair]


_NAMES: dict[Pair, frozenset[str]] = {}


REFUSED: list[tuple[Pair, str]] = [
    (("paused", None), signal("server.stop.accepted", "unchanged", "powering-off")),
    # The vm_state half would fit, the task_state half does not; then the other way round.
    (("active", "pausing"), signal("server.stop.succeeded", "stopped", None)),
    (("rescued", "powering-off"), signal("server.stop.succeeded", "stopped", None)),
    (("active", None), signal("server.pause.succeeded", "paused", None)),
    (("active", "scheduling"), signal("server.create.accepted", "building", "scheduling")),
]


@pytest.mark.parametrize(("pair", "event"), REFUSED)
def test_a_refused_event_moves_neither_region(runner: Runner, pair: Pair, event: str) -> None:
    with pytest.raises(TransitionNotAllowed):
        runner.fire(*pair, event)
    assert runner.pair == pair


def test_an_unknown_event_is_refused(runner: Runner) -> None:
    with pytest.raises(TransitionNotAllowed):
        runner.fire("active", None, "server_stop_imagined__stopped__no_task")
