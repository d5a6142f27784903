"""The machine as documents: pure functions from the rules to text, so that what is published is what runs.

`python -m domain.machine.render --write docs/machine` writes them; `--check docs/machine` exits 1 where they differ.
"""

from __future__ import annotations

from domain.machine import MACHINE
from domain.machine.render import cells, graph, picture, tables
from domain.machine.table import Machine


def matrix(machine: Machine = MACHINE) -> str:
    """Markdown: every rule as tables, with a diagram of every command that has a path."""
    return tables.matrix(machine)


def mermaid(machine: Machine = MACHINE) -> str:
    """Mermaid: the vm_states and the commands that lead from one to another."""
    return graph.overview(machine)


def svg(machine: Machine = MACHINE) -> str:
    """SVG: the same as a picture that needs no tool."""
    return picture.svg(machine)


def json(machine: Machine = MACHINE) -> str:
    """JSON: states, rules, and every cell of commands x vm_states x task_states."""
    return cells.json(machine)


def documents() -> dict[str, str]:
    """File name -> text of everything in docs/machine."""
    return {"matrix.md": matrix(), "machine.mmd": mermaid(), "machine.svg": svg(), "machine.json": json()}
