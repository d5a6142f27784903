"""Mermaid: the overview of vm_states, and one small diagram per command with a path of its own."""

from __future__ import annotations

from itertools import pairwise

from domain.machine.render.edges import ANY, may_end_in_error, vm_state_edges
from domain.machine.rule import UNCHANGED, CommandRule
from domain.machine.table import Machine
from domain.states import VM_STATES, identifier


def overview(machine: Machine) -> str:
    """A stateDiagram-v2 of the vm_states; edges are labelled with the commands that lead along them."""
    lines = ["stateDiagram-v2", "    direction LR", f'    state "any vm_state" as {ANY}']
    lines += [f'    state "{name}" as {identifier(name)}' for name in VM_STATES]
    lines.append("    [*] --> building: create accepted")
    for (source, target), commands in vm_state_edges(machine).items():
        lines.append(f"    {identifier(source)} --> {identifier(target)}: {', '.join(commands)}")
    lines.append("    deleted --> [*]")
    lines.append("    note right of error")
    failing = may_end_in_error(machine)
    lines.append("        may follow a failed")
    lines += [f"        {', '.join(failing[start : start + 5])}" for start in range(0, len(failing), 5)]
    lines.append("    end note")
    return "\n".join(lines) + "\n"


def command(rule: CommandRule) -> str:
    """A stateDiagram-v2 of one command: its task_states in order, and what each outcome leaves."""
    names = rule.task_states
    lines = ["stateDiagram-v2", "    direction LR", f"    [*] --> {identifier(names[0])}: accepted"]
    ways = _ways(rule)
    for label, way in ways:
        lines += [f"    {identifier(before)} --> {identifier(after)}{label}" for before, after in pairwise(way)]
    if rule.retries:
        lines.append(f"    {identifier(names[-1])} --> {identifier(names[0])}: next host")
    for stage in rule.stages:
        if stage.vm_state != UNCHANGED:
            lines.append(f"    {identifier(stage.task_state)}: {stage.task_state}, vm_state {stage.vm_state}")
        elif stage.task_state != identifier(stage.task_state):
            lines.append(f"    {identifier(stage.task_state)}: {stage.task_state}")
    for phase, states in rule.outcomes.items():
        lines += [f"    {identifier(way[-1])} --> {phase}" for _, way in ways]
        lines.append(f"    {phase}: {phase}, vm_state {' or '.join(sorted(states))}")
    return "\n".join(lines) + "\n"


def _ways(rule: CommandRule) -> list[tuple[str, tuple[str, ...]]]:
    """The walks through a command, with the label of their edges: one, or one per vm_state that a stage needs."""
    needed = [stage for stage in rule.stages if stage.only_from is not None]
    if not needed:
        return [("", rule.task_states)]
    return [(f": from {stage.only_from}", (rule.task_states[0], stage.task_state)) for stage in needed]
