"""Whatever is refused says what to do next: every cell of the machine, every decision, every class of refusal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from domain import errors
from domain.errors import Rejected
from domain.machine import MACHINE
from domain.states import TASK_STATES, VM_STATES

ROOT = Path(__file__).parents[2]
CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Rejected)]


def test_every_cell_of_the_machine_that_refuses() -> None:
    refused = 0
    for command in MACHINE.commands:
        for vm_state in VM_STATES:
            for task_state in (None, *TASK_STATES):
                for launched, locked, host in (
                    (True, False, "h"),
                    (True, True, "h"),
                    (False, False, "h"),
                    (True, False, None),
                ):
                    refusal = MACHINE.refusal(
                        command,
                        vm_state=vm_state,
                        task_state=task_state,
                        launched=launched,
                        locked=locked,
                        is_admin=False,
                        host=host,
                        host_up=host is None,
                    )
                    if refusal is not None:
                        refused += 1
                        assert refusal.hint, (command, vm_state, task_state)
    assert refused > 10_000


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_has_an_advice(kind: type[Rejected]) -> None:
    assert kind("No").advice == kind.usual_hint
    assert kind("No", hint="Do that.").advice == "Do that."
    assert kind.usual_hint.endswith(".")


def test_every_refusal_of_a_decision_has_a_hint_of_its_own() -> None:
    names = {kind.__name__ for kind in CLASSES}
    missing = []
    for path in (ROOT / "domain" / "decide").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                hints = [one.value for one in node.keywords if one.arg == "hint"]
                if not hints or (isinstance(hints[0], ast.Constant) and not hints[0].value):
                    missing.append(f"{path.name}:{node.lineno}")
    assert missing == []
