"""The matrix in Markdown: when every command is legal, what it sets, and how it may end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain.machine.render.graph import command as command_diagram
from domain.machine.rule import ANY_TASK_STATE, ANY_VM_STATE, NO_TASK, UNCHANGED, CommandRule, Guard
from domain.machine.table import Machine
from domain.states import TASK_STATES, VM_STATES, status

_HEAD = """# The machine of server states

Generated from `domain/machine` by `python -m domain.machine.render --write docs/machine`; CI fails when it differs.

A command is refused with 409 where its row has no mark. Beside vm_state and task_state a command may ask for a server
that ran once (*launched*), that is not *locked* (administrators are not asked), and that has a *host*. A task_state is
set only while an operation is open, and every operation has a deadline, so none lasts for ever. `create` looks at no
state, because there is none; it can only be the first event. `reset-network` was removed from the API and is always
410. A deleted server is not found (404), whatever its row says.
"""

_LEGEND = """
● legal when no task is in progress; ◐ only, or also, while some task is in progress (below); ○ whatever is in progress;
empty: refused.
"""


def matrix(machine: Machine) -> str:
    """Every table of the machine as one Markdown page."""
    rules = [rule for rule in machine.commands.values() if not rule.internal]
    internal = [rule for rule in machine.commands.values() if rule.internal]
    parts = [_HEAD, "\n## Where a command is legal\n", _LEGEND, *_legality(rules), *_busy(rules)]
    parts += ["\n## What it asks for, sets, and leaves\n\n", *_rules(rules)]
    parts += ["\n## What the control plane does by itself\n\n", *_rules(internal), _OBSERVED]
    parts += ["\n## Task states\n\n", *_tasks(rules)]
    parts += ["\n## Status shown\n\n", *_statuses()]
    parts += [_STEP_BY_STEP, *_diagrams(rules)]
    return "".join(parts)


_OBSERVED = """
A power state that a host shows on its own (`server.power.observed`) changes vm_state only when no task is in progress:
active or paused with a guest that is shut down or crashed becomes stopped. A stopped server whose guest runs is stopped
again by `power-sync`.
"""


_STEP_BY_STEP = """
## Commands step by step

Only commands with more than one task_state. A command may skip stages, and each outcome may come at any stage; it is
drawn from the last.
"""


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield _row(head)
    yield _row("---" for _ in head)
    for cells in rows:
        yield _row(cells)


def _legality(rules: list[CommandRule]) -> Iterator[str]:
    yield "\n"
    yield from _table(
        ("command", *VM_STATES),
        ((f"`{rule.id}`", *(_mark(rule, vm_state) for vm_state in VM_STATES)) for rule in rules),
    )


def _mark(rule: CommandRule, vm_state: str) -> str:
    if not rule.exists or vm_state not in rule.guard.vm_states:
        return " "
    if rule.guard.task_states == NO_TASK:
        return "●"
    return "○" if rule.guard.task_states == ANY_TASK_STATE else "◐"


def _busy(rules: list[CommandRule]) -> Iterator[str]:
    yield "\n"
    for rule in rules:
        tasks = rule.guard.task_states
        if rule.exists and tasks not in (NO_TASK, ANY_TASK_STATE):
            yield f"- `{rule.id}`: task_state {_tasks_of(rule.guard)}\n"


def _tasks_of(guard: Guard) -> str:
    if guard.task_states == ANY_TASK_STATE:
        return "any"
    absent = ANY_TASK_STATE - guard.task_states
    if len(absent) < len(guard.task_states):
        return f"any but {_names(absent)}"
    return _names(guard.task_states)


def _names(states: Iterable[str | None]) -> str:
    order = (None, *TASK_STATES)
    return ", ".join("none" if name is None else name for name in sorted(states, key=order.index))


def _rules(rules: list[CommandRule]) -> Iterator[str]:
    head = ("command", "policy", "launched", "lock", "host", "task_state on acceptance", "then")
    ends = ("succeeded", "failed", "reverted", "deadline", "action", "events")
    yield from _table(head + ends, (_described(rule) for rule in rules))
    notes = [rule for rule in rules if rule.why]
    if notes:
        yield "\n"
    for rule in notes:
        yield f"- `{rule.id}`: {rule.why}\n"


def _described(rule: CommandRule) -> Iterator[str]:
    guard = rule.guard
    yield f"`{rule.id}`"
    yield rule.policy
    yield "yes" if guard.launched else ""
    yield "yes" if guard.lock_checked else ""
    yield guard.host or ""
    if not rule.exists:
        yield from [""] * 8
        return
    yield "none" if rule.accept_task_state is None else rule.accept_task_state
    yield " → ".join(
        f"{stage.only_from or stage.vm_state}/{stage.task_state}".removeprefix(f"{UNCHANGED}/") for stage in rule.stages
    )
    for phase in ("succeeded", "failed", "reverted"):
        yield " or ".join(sorted(_outcome(rule, phase)))
    yield f"{rule.deadline_seconds} s" if rule.deadline_seconds else "at once"
    yield rule.action or ""
    yield ", ".join(rule.events)


def _outcome(rule: CommandRule, phase: str) -> frozenset[str]:
    states = rule.outcomes.get(phase, frozenset())
    if phase == "succeeded" and rule.instant and rule.accept_vm_states != (UNCHANGED,):
        return frozenset(rule.accept_vm_states)
    return states


def _tasks(rules: list[CommandRule]) -> Iterator[str]:
    def users(task_state: str) -> str:
        return ", ".join(f"`{rule.id}`" for rule in rules if task_state in rule.task_states)

    yield from _table(
        ("task_state", "set by"),
        ((name, users(name) or "nothing (a name of Nova's that no code sets)") for name in TASK_STATES),
    )


def _statuses() -> Iterator[str]:
    def shown(vm_state: str) -> str:
        normal = status(vm_state, None)
        others = ((name, status(vm_state, name)) for name in TASK_STATES)
        return ", ".join(f"{value} while {name}" for name, value in others if value != normal)

    yield from _table(("vm_state", "status", "but"), ((name, status(name, None), shown(name)) for name in VM_STATES))


def _diagrams(rules: list[CommandRule]) -> Iterator[str]:
    for rule in rules:
        if rule.stages:
            frm = "any vm_state" if rule.guard.vm_states == ANY_VM_STATE else ", ".join(sorted(rule.guard.vm_states))
            yield f"\n### {rule.id}\n\nFrom {frm}.\n\n```mermaid\n{command_diagram(rule)}```\n"
