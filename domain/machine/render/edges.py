"""The vm_state graph that the pictures show: which command leads from which vm_state to which."""

from __future__ import annotations

from domain.machine.rule import ANY_VM_STATE, UNCHANGED, CommandRule
from domain.machine.table import Machine
from domain.states import VM_STATES

ANY = "any"
"""Stands for every vm_state: the source of commands that are always legal."""

NOTHING = "(none)"
"""Before a server exists."""

Edges = dict[tuple[str, str], list[str]]


def vm_state_edges(machine: Machine) -> Edges:
    """(from, to) -> commands that lead there when they succeed. Commands that keep the vm_state are not shown."""
    edges: Edges = {}
    for rule in machine.commands.values():
        if rule.internal:
            continue
        for source in _sources(rule):
            for target in _targets(rule, source):
                if target != source:
                    edges.setdefault((source, target), []).append(rule.id)
    return edges


def _sources(rule: CommandRule) -> list[str]:
    if rule.creates:
        return [rule.accept_vm_states[0]]
    if rule.guard.vm_states == ANY_VM_STATE:
        return [ANY]
    ends_in = rule.outcomes.get("succeeded", frozenset())
    kept = ends_in if len(ends_in) > 1 else frozenset()  # rebuild, evacuate: active and stopped stay what they are
    return [name for name in VM_STATES if name in rule.guard.vm_states and name not in kept]


def _targets(rule: CommandRule, source: str) -> list[str]:
    if rule.accept_vm_states != (UNCHANGED,) and not rule.creates:
        return list(rule.accept_vm_states)
    return sorted(rule.leaves("succeeded", source) - {UNCHANGED})


def may_end_in_error(machine: Machine) -> list[str]:
    """Commands whose failure may leave error."""
    return [rule.id for rule in machine.commands.values() if "error" in rule.outcomes.get("failed", ())]
