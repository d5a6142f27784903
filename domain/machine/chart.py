"""The machine as a python-statemachine StateChart: two parallel regions, vm_state and task_state.

Every transition of the rules becomes a move of each region it changes, guarded by the state of the other region: an
event moves both regions or, where one guard fails, neither. The library runs it; a test compares every cell with the
table. Definition, proof and diagrams only: a step costs hundreds of microseconds, so the hot path asks the table.

Fails with `TransitionNotAllowed` where an event is not legal; unknown events and errors inside are never swallowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine import State, StateChart
from statemachine.orderedset import OrderedSet

from domain.machine import MACHINE
from domain.machine.rule import UNCHANGED
from domain.machine.table import Machine
from domain.machine.transitions import BEFORE_CREATE, Pair, Transition
from domain.states import TASK_STATES, VM_STATES, identifier

NO_TASK_ID = "no_task"
_SERVER, _VM_STATE, _TASK_STATE = "server", "vm_state", "task_state"


def state_id(task_state: str | None) -> str:
    return NO_TASK_ID if task_state is None else identifier(task_state)


def signal(event: str, vm_after: str, task_after: str | None) -> str:
    """The chart's event for one event type with one result: an event with a choice of results is as many signals."""
    return "__".join((identifier(event), identifier(vm_after), state_id(task_after)))


class _Model:
    """Holds the chart's configuration; assigning `state` puts the chart into a stored pair."""

    def __init__(self) -> None:
        self.state: OrderedSet[str] | None = None


def build_chart(machine: Machine = MACHINE) -> type[StateChart[_Model]]:
    """A StateChart class of the whole machine. Costs some seconds: build it once."""
    vm_states = {name: State(initial=name == BEFORE_CREATE[0]) for name in VM_STATES}
    task_states: dict[str | None, State] = {None: State(initial=True), **{name: State() for name in TASK_STATES}}
    for event in machine.event_types:
        results: dict[tuple[str, str | None], list[Transition]] = {}
        for transition in machine.transitions(event):
            results.setdefault((transition.vm_after, transition.task_after), []).append(transition)
        for result, group in results.items():
            _connect(vm_states, task_states, signal(event, *result), result, group)
    regions = {
        _VM_STATE: _region(_VM_STATE, {identifier(name): state for name, state in vm_states.items()}),
        _TASK_STATE: _region(_TASK_STATE, {state_id(name): state for name, state in task_states.items()}),
    }
    server = type(State.Parallel)(_SERVER, (State.Parallel,), regions)
    chart: type[StateChart[_Model]] = type(StateChart)(
        "ServerChart",
        (StateChart,),
        {
            _SERVER: server,
            "allow_event_without_transition": False,
            "catch_errors_as_events": False,
            "validate_disconnected_states": False,  # resize_confirming: a name of Nova's that nothing sets
        },
    )
    return chart


def _region(name: str, states: dict[str, State]) -> State:
    return type(State.Compound)(name, (State.Compound,), states)


def _connect(
    vm_states: dict[str, State],
    task_states: dict[str | None, State],
    event: str,
    result: tuple[str, str | None],
    group: list[Transition],
) -> None:
    """Add one signal to both regions, each half guarded by the other region."""
    vm_after, task_after = result
    for task_state, state in task_states.items():
        allowed = frozenset(vm for move in group if task_state in move.task_before for vm in move.vm_before)
        if not allowed:
            continue
        # A region that stays gets a transition without a target: one to itself would leave and enter again.
        target = None if task_after in (UNCHANGED, task_state) else task_states[task_after]
        state.to(target, event=event, cond=_inside(frozenset(identifier(vm) for vm in allowed)))
    if vm_after == UNCHANGED:
        return
    for vm_state, state in vm_states.items():
        with_tasks = frozenset(task for move in group if vm_state in move.vm_before for task in move.task_before)
        if with_tasks and vm_state != vm_after:
            tasks = frozenset(state_id(task) for task in with_tasks)
            state.to(vm_states[vm_after], event=event, cond=_inside(tasks))


def _inside(names: frozenset[str]) -> Callable[..., bool]:
    """A guard on the other region: it is in one of these states."""

    def inside(machine: Any) -> bool:
        return not names.isdisjoint(machine.configuration_values)

    return inside


class Runner:
    """One chart, put into a pair and run from there."""

    def __init__(self, machine: Machine = MACHINE) -> None:
        self._chart = build_chart(machine)(model=_Model())
        self._vm_states = {identifier(name): name for name in VM_STATES}
        self._task_states: dict[str, str | None] = {state_id(name): name for name in (None, *TASK_STATES)}

    @property
    def pair(self) -> Pair:
        """Where the chart is: in exactly one state of each region."""
        active = self._chart.configuration_values
        (vm_state,) = (name for key, name in self._vm_states.items() if key in active)
        (task_state,) = (name for key, name in self._task_states.items() if key in active)
        return vm_state, task_state

    def enter(self, vm_state: str, task_state: str | None) -> None:
        """Put the chart into a pair, as if it had come there."""
        self._chart.model.state = OrderedSet(
            [_SERVER, _VM_STATE, identifier(vm_state), _TASK_STATE, state_id(task_state)]
        )

    def enabled(self, vm_state: str, task_state: str | None) -> frozenset[str]:
        """Every signal that the chart allows in a pair."""
        self.enter(vm_state, task_state)
        return frozenset(event.id for event in self._chart.enabled_events())

    def fire(self, vm_state: str, task_state: str | None, signal: str) -> Pair:
        """The pair after a signal. Raises `TransitionNotAllowed`."""
        self.enter(vm_state, task_state)
        self._chart.send(signal)
        return self.pair
