"""The machine as a table: what the hot path and the audit ask.

Compiled from the rules when it is made (a few milliseconds); an acceptance is one lookup. The statechart of
`domain.machine.chart` is built from the same rules and a test runs it over every cell to prove the two equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from domain.machine import refusal
from domain.machine.refusal import Refusal
from domain.machine.rule import UNCHANGED, CommandRule
from domain.machine.transitions import Pair, Transition, observations, observe, transitions


class Machine:
    """What may happen to a server. Immutable; every method is pure."""

    def __init__(self, rules: Iterable[CommandRule]) -> None:
        self.commands: Mapping[str, CommandRule] = MappingProxyType({rule.id: rule for rule in rules})
        self._accept = {rule.id: _acceptance(rule) for rule in self.commands.values()}
        self._transitions: dict[str, list[Transition]] = {}
        for rule in self.commands.values():
            for transition in transitions(rule):
                self._transitions.setdefault(transition.event, []).append(transition)
        for transition in observations():
            self._transitions.setdefault(transition.event, []).append(transition)
        self.legal_commands = cache(self._legal_commands)

    @property
    def event_types(self) -> tuple[str, ...]:
        """Every event type of the machine."""
        return tuple(self._transitions)

    def transitions(self, event_type: str) -> tuple[Transition, ...]:
        """How an event of this type moves a server. Empty for a type that is none of the machine's."""
        return tuple(self._transitions.get(event_type, ()))

    def rule(self, command: str) -> CommandRule:
        """The rule of a command. Raises `KeyError` for one that does not exist."""
        return self.commands[command]

    def accept(self, command: str, vm_state: str, task_state: str | None) -> Pair | None:
        """The state after acceptance, or None where the state refuses the command.

        Looks at vm_state and task_state only; `refusal` looks at everything. Where acceptance has a choice of vm_state
        (reset-state) this is the first of `accept_vm_states`.
        """
        return self._accept[command].get((vm_state, task_state))

    def refusal(
        self,
        command: str,
        *,
        vm_state: str,
        task_state: str | None,
        launched: bool,
        locked: bool,
        is_admin: bool,
        host: str | None,
        host_up: bool = True,
    ) -> Refusal | None:
        """Why the command is refused now, or None. The first reason in Nova's order: lock, host set, state, host up."""
        rule = self.commands[command]
        guard = rule.guard
        if not rule.exists:
            return refusal.removed(rule)
        if guard.lock_checked and locked and not is_admin:
            return refusal.locked(rule)
        if guard.host == "set" and host is None:
            return refusal.no_host(rule)
        if vm_state not in guard.vm_states:
            return refusal.wrong_vm_state(rule, vm_state)
        if task_state not in guard.task_states:
            return refusal.wrong_task_state(rule, task_state)
        if guard.launched and not launched:
            return refusal.never_launched(rule)
        if guard.host == "up" and host is None:
            return refusal.no_host(rule)
        if guard.host == "up" and not host_up:
            return refusal.host_down(rule)
        return None

    def after(self, event_type: str, before: Pair) -> frozenset[Pair]:
        """Every pair that an event of this type may lead to. Empty: it is not legal here."""
        moves = (transition.apply(*before) for transition in self._transitions.get(event_type, ()))
        return frozenset(pair for pair in moves if pair is not None)

    def legal(self, event_type: str, before: Pair, after: Pair) -> bool:
        """Whether an event that changed a server so is a transition of the machine."""
        return any(transition.apply(*before) == after for transition in self._transitions.get(event_type, ()))

    def outcome_vm_states(self, command: str, phase: str) -> frozenset[str]:
        """The vm_states that an outcome may leave; UNCHANGED: the one at that moment. Empty: no such outcome."""
        return self.commands[command].outcomes.get(phase, frozenset())

    def observe(self, vm_state: str, task_state: str | None, power_state: str) -> str:
        """The vm_state after a hypervisor showed `power_state` (a name of `POWER_STATES`)."""
        return observe(vm_state, task_state, power_state)

    def _legal_commands(self, vm_state: str, task_state: str | None) -> tuple[str, ...]:
        """The commands that a user could give a server in this state. Empty for a deleted one: it is not found."""
        if vm_state == "deleted":
            return ()
        return tuple(
            rule.id
            for rule in self.commands.values()
            if not rule.internal and not rule.creates and (vm_state, task_state) in self._accept[rule.id]
        )


def _acceptance(rule: CommandRule) -> dict[Pair, Pair]:
    """Every state in which the guard holds, and the state after acceptance."""
    if not rule.exists:
        return {}
    set_vm, set_task = rule.accept_vm_states[0], rule.accept_task_state
    return {
        (vm_state, task_state): (
            vm_state if set_vm == UNCHANGED else set_vm,
            task_state if set_task == UNCHANGED else set_task,
        )
        for vm_state in rule.guard.vm_states
        for task_state in rule.guard.task_states
    }
