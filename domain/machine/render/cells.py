"""The machine as JSON, for programs: every cell of the guard, the states, and every command's rule."""

from __future__ import annotations

import json as codec
from typing import Any

from domain.machine.rule import CommandRule
from domain.machine.table import Machine
from domain.states import POWER_STATES, TASK_STATES, VM_STATES, status


def json(machine: Machine) -> str:
    """{"states", "commands", "internal", "cells"}; one cell per line.

    A cell is {command, vm_state, task_state, accepted, task_state_after}; a null task_state is "none". `accepted` looks
    at vm_state and task_state only, as for a launched, unlocked server on a running host. `task_state_after` of a
    refused command is the task_state that stays.
    """
    rules = [rule for rule in machine.commands.values() if not rule.internal]
    cells = ",\n".join(codec.dumps(cell, separators=(",", ":")) for rule in rules for cell in _cells(machine, rule))
    parts = {
        "states": codec.dumps(_states(), indent=1),
        "commands": codec.dumps([_command(rule) for rule in rules], indent=1),
        "internal": codec.dumps([_command(rule) for rule in machine.commands.values() if rule.internal], indent=1),
        "cells": f"[\n{cells}\n]",
    }
    return "{\n" + ",\n".join(f'"{name}": {text}' for name, text in parts.items()) + "\n}\n"


def _cells(machine: Machine, rule: CommandRule) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    for vm_state in VM_STATES:
        for task_state in (None, *TASK_STATES):
            after = machine.accept(rule.id, vm_state, task_state)
            cell = {"command": rule.id, "vm_state": vm_state, "task_state": task_state, "accepted": after is not None}
            cells.append(cell | {"task_state_after": after[1] if after else task_state})
    return cells


def _states() -> dict[str, Any]:
    return {
        "vm_states": VM_STATES,
        "task_states": TASK_STATES,
        "power_states": POWER_STATES,
        "status": {
            vm_state: {str(task or "null"): status(vm_state, task) for task in (None, *TASK_STATES)}
            for vm_state in VM_STATES
        },
    }


def _command(rule: CommandRule) -> dict[str, Any]:
    def ordered(names: frozenset[str] | frozenset[str | None], order: tuple[str | None, ...]) -> list[str | None]:
        return [name for name in order if name in names]

    return {
        "id": rule.id,
        "title": rule.title,
        "policy": rule.policy,
        "exists": rule.exists,
        "guard": {
            "vm_states": ordered(rule.guard.vm_states, VM_STATES),
            "task_states": ordered(rule.guard.task_states, (None, *TASK_STATES)),
            "launched": rule.guard.launched,
            "lock_checked": rule.guard.lock_checked,
            "host": rule.guard.host,
        },
        "accept": {"vm_states": rule.accept_vm_states, "task_state": rule.accept_task_state},
        "path": [{"task_state": stage.task_state, "vm_state": stage.vm_state} for stage in rule.stages],
        "outcomes": {phase: sorted(states) for phase, states in rule.outcomes.items()},
        "deadline_seconds": rule.deadline_seconds,
        "action": rule.action,
        "events": rule.events,
        "note": rule.why,
    }
