"""Every step of every workflow that `domain.workflows` declares, as a test brings a server to it.

Generated: a new workflow is here by itself. What it may need said is in the three tables: what has to be done before
it is legal, what has to be done before a step of it applies, and its parameters (those of /v1/commands).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain.machine import MACHINE
from domain.server import Server
from domain.workflows import UNDO, WORKFLOWS, Step, Undo

ON_HOST = "shelve"  # in `before`: a shelve that leaves the guest on its host

BEFORE: dict[str, tuple[str, ...]] = {
    "start": ("stop",),
    "power-sync": ("stop",),
    "unpause": ("pause",),
    "resume": ("suspend",),
    "restore": ("soft-delete",),
    "unrescue": ("rescue",),
    "confirm-resize": ("resize",),
    "revert-resize": ("resize",),
    "shelve-offload": (ON_HOST,),
    "unshelve": (ON_HOST, "shelve-offload"),
    "detach-volume": ("attach-volume",),
    "swap-volume": ("attach-volume",),
    "extend-volume": ("attach-volume",),
    "snapshot-volume": ("attach-volume",),
    "detach-interface": ("attach-interface",),
    "create-backup": ("create-backup",),
}
BEFORE_STEP: dict[tuple[str, str], tuple[str, ...]] = {
    ("rebuild", "power_off"): ("stop",),
    ("unshelve", "power_on"): (ON_HOST,),
    ("extend-volume", "extend_file"): ("attach-volume", ON_HOST, "shelve-offload"),
    ("snapshot-volume", "copy_snapshot"): ("attach-volume", ON_HOST, "shelve-offload"),
    ("delete", "detach_volumes"): ("attach-volume",),
    ("force-delete", "detach_volumes"): ("attach-volume",),
    ("delete", "delete_shelved_image"): (ON_HOST,),
    ("force-delete", "delete_shelved_image"): (ON_HOST,),
}
# These steps are of servers that boot from a volume, and these of others: the rest applies to both.
VOLUME_BACKED = frozenset(
    {
        *(("create", "create_volumes"), ("create", "record_volumes"), ("rebuild", "record_content")),
        *(("create-image", step) for step in ("create_snapshots", "snapshot_volumes", "publish_snapshots")),
    }
)
OFFLOADS_AT_ONCE = ("shelve", "offload")  # the step of a shelve that is told to offload; other shelves are not


@dataclass(frozen=True)
class Things:
    """What commands name: made once, used by all. A volume belongs to one server at a time."""

    image: str
    bigger_flavor: str
    network: str


def params(command: str, things: Things, server: Server, volume_id: str) -> dict[str, Any]:
    """The parameters of a command given to this server as it is now."""
    given: dict[str, dict[str, Any]] = {
        "rebuild": {"image": things.image},
        "resize": {"flavor": things.bigger_flavor},
        "set-password": {"password": "Sesame-1"},
        "create-image": {"name": "image"},
        "create-backup": {"name": "backup", "backup_type": "daily", "rotation": 1},
        "attach-volume": {"volume_id": volume_id},
        "detach-volume": {"volume_id": volume_id},
        "attach-interface": {"network": things.network},
        "detach-interface": {"port_id": server.interfaces[-1].port_id if server.interfaces else ""},
    }
    return given.get(command, {})


@dataclass(frozen=True)
class Case:
    """One step of one workflow."""

    command: str
    step: Step

    @property
    def id(self) -> str:
        return f"{self.command}-{self.step.name}"

    @property
    def before(self) -> tuple[str, ...]:
        return BEFORE_STEP.get((self.command, self.step.name), BEFORE.get(self.command, ()))

    @property
    def offload(self) -> bool:
        return (self.command, self.step.name) == OFFLOADS_AT_ONCE

    @property
    def volume_backed(self) -> bool:
        return (self.command, self.step.name) in VOLUME_BACKED

    @property
    def internal(self) -> bool:
        """Not a user's command: it follows from what a hypervisor shows."""
        return MACHINE.rule(self.command).internal

    def undos(self) -> tuple[Undo, ...]:
        """What takes the workflow back when this step fails, the newest first."""
        steps = WORKFLOWS[self.command].steps
        # A step that sets the vm_state begins a part of its own: what was before it is whole, and stays.
        upto = steps[: steps.index(self.step) + 1] if self.step.vm_state is None else (self.step,)
        others = () if self.volume_backed else tuple(name for command, name in VOLUME_BACKED if command == self.command)
        names = dict.fromkeys(step.undo for step in reversed(upto) if step.undo is not None and step.name not in others)
        return tuple(UNDO[name] for name in names)


# Steps that apply only after another command was ended in its middle: every delete in the middle of a step comes by the
# first two, a delete after a reset (tests.faults.test_reset) by the third; the last is of a reset build.
AFTER_AN_END = frozenset(
    {
        *((command, "give_back") for command in ("delete", "force-delete", "soft-delete")),
        *((command, "give_back_owed") for command in ("delete", "force-delete")),
        ("settle", "destroy"),
    }
)

CASES = tuple(
    Case(command, step)
    for command, workflow in WORKFLOWS.items()
    for step in workflow.steps
    if (command, step.name) not in AFTER_AN_END
)


def named(what: str, step: Step | Undo) -> str:
    """A part of a server's name that the simulated hypervisor obeys at this step: `fail`, `slow` or `hang`."""
    assert step.order is not None
    if what == "fail" and isinstance(step, Step) and step.undo is not None and UNDO[step.undo].order == step.order:
        what = "failonce"  # its undo is the same order, which has to go through
    return f"{what}-{step.order.replace('_', '-')}"
