"""The names of server states, and the API status that a pair of them shows.

Responsible for: the vocabulary (12 vm_states, 42 task_states or none, 6 power states) and `status`, a pure function of
(vm_state, task_state). Guarantees: `status` is total over all 516 pairs and `statuses_to_states` is its exact inverse;
an unknown vm_state shows UNKNOWN. Source: Nova's API guide "Server concepts" and its compute vm_states and task_states.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

VmState = Literal[
    "active",
    "building",
    "paused",
    "suspended",
    "stopped",
    "rescued",
    "resized",
    "soft-delete",
    "deleted",
    "error",
    "shelved",
    "shelved_offloaded",
]

TaskState = Literal[
    "scheduling",
    "block_device_mapping",
    "networking",
    "spawning",
    "image_snapshot",
    "image_snapshot_pending",
    "image_pending_upload",
    "image_uploading",
    "image_backup",
    "updating_password",
    "resize_prep",
    "resize_migrating",
    "resize_migrated",
    "resize_finish",
    "resize_reverting",
    "resize_confirming",
    "rebooting",
    "reboot_pending",
    "reboot_started",
    "rebooting_hard",
    "reboot_pending_hard",
    "reboot_started_hard",
    "pausing",
    "unpausing",
    "suspending",
    "resuming",
    "powering-off",
    "powering-on",
    "rescuing",
    "unrescuing",
    "rebuilding",
    "rebuild_block_device_mapping",
    "rebuild_spawning",
    "migrating",
    "deleting",
    "soft-deleting",
    "restoring",
    "shelving",
    "shelving_image_pending_upload",
    "shelving_image_uploading",
    "shelving_offloading",
    "unshelving",
]

VM_STATES: tuple[str, ...] = get_args(VmState)
TASK_STATES: tuple[str, ...] = get_args(TaskState)

POWER_STATES: dict[str, int] = {
    "nostate": 0,
    "running": 1,
    "paused": 3,
    "shutdown": 4,
    "crashed": 6,
    "suspended": 7,
}


def identifier(name: str) -> str:
    """A name as tools want it that know no dash: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name)


PROGRESS_SHOWN = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
"""Statuses in which a server shows `progress`."""

FAULT_SHOWN = frozenset({"ERROR", "DELETED"})
"""Statuses in which a server shows its `fault`."""

_STATUS = {
    "active": "ACTIVE",
    "building": "BUILD",
    "paused": "PAUSED",
    "suspended": "SUSPENDED",
    "stopped": "SHUTOFF",
    "rescued": "RESCUE",
    "resized": "VERIFY_RESIZE",
    "soft-delete": "SOFT_DELETED",
    "deleted": "DELETED",
    "error": "ERROR",
    "shelved": "SHELVED",
    "shelved_offloaded": "SHELVED_OFFLOADED",
}

_RESIZE = dict.fromkeys(("resize_prep", "resize_migrating", "resize_migrated", "resize_finish"), "RESIZE")
_REBUILD = dict.fromkeys(("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning"), "REBUILD")
_REBOOT = dict.fromkeys(("rebooting", "reboot_pending", "reboot_started"), "REBOOT") | dict.fromkeys(
    ("rebooting_hard", "reboot_pending_hard", "reboot_started_hard"), "HARD_REBOOT"
)

_STATUS_WHILE: dict[str, dict[str, str]] = {
    "active": {"updating_password": "PASSWORD", "migrating": "MIGRATING", **_RESIZE, **_REBUILD, **_REBOOT},
    "paused": {"migrating": "MIGRATING"},
    "stopped": {**_RESIZE, **_REBUILD},
    "resized": {"resize_reverting": "REVERT_RESIZE"},
    "error": _REBUILD,
}
"""Where a task_state shows through. Every other task_state keeps the status of its vm_state."""


def status(vm_state: str, task_state: str | None) -> str:
    """The API status of a server. UNKNOWN for a vm_state that is none of ours."""
    if task_state is not None and (shown := _STATUS_WHILE.get(vm_state, {}).get(task_state)):
        return shown
    return _STATUS.get(vm_state, "UNKNOWN")


def statuses_to_states(status: str) -> list[tuple[str, frozenset[str | None] | None]]:
    """The states that show `status`, for list filters: pairs of a vm_state and its task_states.

    A set of task_states includes None where no task is a match; None in place of the set means every one. Empty for a
    status that no server can show.
    """
    found: list[tuple[str, frozenset[str | None] | None]] = []
    for vm_state in VM_STATES:
        exceptions = _STATUS_WHILE.get(vm_state, {})
        if _STATUS[vm_state] == status:
            others = frozenset((None, *TASK_STATES)) - exceptions.keys()
            found.append((vm_state, others if exceptions else None))
        elif shown := frozenset(task for task, value in exceptions.items() if value == status):
            found.append((vm_state, shown))
    return found
