"""From rules to transitions: every move of (vm_state, task_state) that an event of a command can be.

A transition moves both regions at once: it is written for a pair and there is no half of it. UNCHANGED keeps a region.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from domain.machine.rule import ANY_TASK_STATE, ANY_VM_STATE, NO_TASK, OBSERVED, UNCHANGED, CommandRule
from domain.states import VM_STATES

Pair = tuple[str, str | None]
BEFORE_CREATE: Pair = ("building", None)
"""What a server is before its first event."""

GONE = frozenset({"shutdown", "crashed"})
"""Power states in which a guest that should run does not."""

_STEPS = ("step_started", "step_finished")


@dataclass(frozen=True, slots=True)
class Transition:
    """`event` leads from any of these vm_states with any of these task_states to one pair."""

    event: str
    vm_before: frozenset[str]
    task_before: frozenset[str | None]
    vm_after: str
    task_after: str | None

    def apply(self, vm_state: str, task_state: str | None) -> Pair | None:
        """The pair it leads to, or None where it does not start from here."""
        if vm_state not in self.vm_before or task_state not in self.task_before:
            return None
        return (
            vm_state if self.vm_after == UNCHANGED else self.vm_after,
            task_state if self.task_after == UNCHANGED else self.task_after,
        )


@dataclass(frozen=True, slots=True)
class Occupied:
    """Where a server can be while the command is in progress."""

    vm_states: frozenset[str]
    task_states: frozenset[str | None]


def occupied(rule: CommandRule) -> tuple[Occupied, ...]:
    """The pairs of a command in progress, one entry per stage, in order. Stage 0 is the pair after acceptance."""
    kept = rule.accept_vm_states == (UNCHANGED,)
    vm_states = rule.guard.vm_states if kept else frozenset(rule.accept_vm_states)
    if rule.accept_task_state == UNCHANGED:
        tasks = rule.guard.task_states
        if rule.accompanies:
            tasks |= NO_TASK
        if None in tasks and vm_states & {"active", "paused"}:
            vm_states |= {"stopped"}  # with no task_state set, an observation may find the guest gone
        return (Occupied(vm_states, tasks),)
    stages = [Occupied(vm_states, frozenset((rule.accept_task_state,)))]
    for stage in rule.stages:
        if stage.vm_state != UNCHANGED:
            vm_states = frozenset((stage.vm_state,))
        here = vm_states if stage.only_from is None else frozenset((stage.only_from,))
        stages.append(Occupied(here, frozenset((stage.task_state,))))
    return tuple(stages)


def transitions(rule: CommandRule) -> Iterator[Transition]:
    """Every transition of one command."""
    if not rule.exists:
        return
    guard, stages = rule.guard, occupied(rule)
    for vm_state in rule.accept_vm_states:
        if rule.creates:
            froms = frozenset((BEFORE_CREATE[0],)), frozenset((BEFORE_CREATE[1],))
        else:
            froms = guard.vm_states, guard.task_states
        yield Transition(rule.event("accepted"), *froms, vm_state, rule.accept_task_state)
    if not rule.instant:
        yield from _steps(rule, stages)
    frees = UNCHANGED if rule.accept_task_state == UNCHANGED else None
    for phase, vm_states in rule.outcomes.items():
        for vm_state in sorted(vm_states):
            for here in stages:
                before = frozenset(name for name in here.vm_states if vm_state in rule.leaves(phase, name))
                yield Transition(rule.event(phase), before, here.task_states, vm_state, frees)
    if not rule.instant:
        for here in stages:
            yield Transition(rule.event("cancelled"), here.vm_states, here.task_states, UNCHANGED, frees)


def _steps(rule: CommandRule, stages: tuple[Occupied, ...]) -> Iterator[Transition]:
    """Step events: stay, go on to any later stage, or (with `retries`) back to the first."""
    targets = [(UNCHANGED, rule.accept_task_state), *((stage.vm_state, stage.task_state) for stage in rule.stages)]
    for phase in _STEPS:
        for number, (vm_state, task_state) in enumerate(targets):
            back_to_first = rule.retries and number == 0
            for here in stages if back_to_first else stages[: number + 1]:
                before = here.vm_states if vm_state != UNCHANGED else here.vm_states & stages[number].vm_states
                if before:
                    yield Transition(rule.event(phase), before, here.task_states, vm_state, task_state)


def observe(vm_state: str, task_state: str | None, power_state: str) -> str:
    """The vm_state after a hypervisor showed `power_state` (a name): Nova's sync_power_state.

    Nothing is concluded while a task is in progress. A guest that runs though it is stopped is not an observation's
    business: the control plane then asks for `power-sync`.
    """
    if task_state is None and vm_state in ("active", "paused") and power_state in GONE:
        return "stopped"
    if task_state is None and vm_state == "active" and power_state == "suspended":
        return "suspended"  # its memory is on disk and stays there; Nova would stop it
    return vm_state


def observations() -> Iterator[Transition]:
    """The transitions of `server.power.observed`."""
    yield Transition(OBSERVED, ANY_VM_STATE, ANY_TASK_STATE, UNCHANGED, UNCHANGED)
    found_gone = frozenset(name for name in VM_STATES if observe(name, None, "shutdown") != name)
    yield Transition(OBSERVED, found_gone, NO_TASK, "stopped", None)
    yield Transition(OBSERVED, frozenset({"active"}), NO_TASK, "suspended", None)
