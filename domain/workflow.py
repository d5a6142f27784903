"""The words in which workflows are written: a step, what takes it back, and their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.orders import OrderKind
from domain.server import Operation, Server

KEEP = "(keep)"  # the task_state stays as it is

Condition = Callable[[Server], bool]
Finish = Callable[[Server, Operation, datetime, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One step of a workflow. Exactly one of `order` and `control` is set."""

    name: str
    order: OrderKind | None = None
    control: str | None = None
    task_state: str | None = KEEP
    vm_state: str | None = None  # set with the task_state, where Nova does so (null: as it is)
    event: str | None = None
    failed_event: str | None = None  # the event's name when only a failure is shown
    undo: str | None = None
    when: Condition | None = None
    keeps_result: bool = False  # a later step needs what this one found out (operation.params["result"])
    settles: bool = False  # once it is done, what the request took is the server's own, and stays


@dataclass(frozen=True)
class Undo:
    """How a finished (or half finished) step is taken back. `order` and `control` as in `Step`.

    `gives_back`: it undoes what the request took in the control plane at its acceptance, before any agent did a thing.
    """

    name: str
    order: OrderKind | None = None
    control: str | None = None
    gives_back: bool = False


@dataclass(frozen=True)
class Workflow:
    command: str
    steps: tuple[Step, ...]
    finish: Finish

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def next_step(self, server: Server, after: str | None) -> Step | None:
        """The first step after `after` (null: from the start) that applies to the server as it is now."""
        names = [step.name for step in self.steps]
        start = 0 if after is None else names.index(after) + 1
        return next((step for step in self.steps[start:] if step.when is None or step.when(server)), None)


UNDO: dict[str, Undo] = {
    undo.name: undo
    for undo in (
        Undo("release_host", control="release_host"),
        Undo("delete_ports", control="delete_ports"),
        Undo("destroy", order="destroy"),
        Undo("discard_image", control="discard_image", gives_back=True),
        Undo("resize_revert", order="resize_revert"),
        Undo("delete_volumes", control="delete_volumes", gives_back=True),
        Undo("discard_snapshots", control="discard_snapshots", gives_back=True),
        Undo("release_volume", control="release_volume", gives_back=True),
        Undo("unplug_volume", order="detach_volume"),
        Undo("roll_detaching", control="roll_detaching", gives_back=True),
        Undo("release_swap", control="release_swap", gives_back=True),
        Undo("swap_back", order="swap_volume"),
        Undo("roll_extending", control="roll_extending", gives_back=True),
        Undo("spoil_snapshot", control="spoil_snapshot", gives_back=True),
        Undo("release_interface", control="release_interface", gives_back=True),
    )
}


def has_guest(server: Server) -> bool:
    return server.host is not None and server.guest_exists


def unchanged(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    """The finish of a workflow whose success changes nothing more than its steps did."""
    return {}
