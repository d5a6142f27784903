"""The formal machine: the ONE definition of everything that may happen to a server.

To know when a command is legal and what follows, read its entry: `life` (create, delete, restore), `power`, `disk`
(rescue, rebuild, images), `move` (resize, migrate, evacuate), `shelf`, `attach` (volumes, interfaces, ...), `settings`
(lock, metadata, password, ...). `rule` explains the words. Everything else is derived: `transitions`, `table` (the hot
path: `MACHINE`), `refusal` (409 sentences), `chart` (the same as a python-statemachine StateChart, run to prove the
table), `render` (docs/machine).

Guarantees: pure, no I/O, no clock; a state that an event does not allow is refused, never guessed.
"""

from domain.machine import attach, disk, life, move, power, settings, shelf
from domain.machine.refusal import Reason, Refusal
from domain.machine.rule import OBSERVED, PHASES, UNCHANGED, CommandRule, Guard, Stage
from domain.machine.table import Machine
from domain.machine.transitions import BEFORE_CREATE, Pair, Transition

MACHINE = Machine(
    (
        *life.RULES,
        *power.RULES,
        *disk.RULES,
        *move.RULES,
        *shelf.RULES,
        *attach.RULES,
        *settings.RULES,
    )
)

__all__ = [
    "BEFORE_CREATE",
    "MACHINE",
    "OBSERVED",
    "PHASES",
    "UNCHANGED",
    "CommandRule",
    "Guard",
    "Machine",
    "Pair",
    "Reason",
    "Refusal",
    "Stage",
    "Transition",
]
