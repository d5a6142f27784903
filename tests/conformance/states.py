"""How a server is brought into each recorded state, through the API alone.

A recipe is a list of requests: `("demo", {"os-stop": None})` is an action by that actor, `"DELETE"` a delete. The last
request of a `T_` recipe is sent while nothing goes on, so the server stays in the task_state of its acceptance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

Request = tuple[str, dict[str, Any] | str]

STOP: Request = ("demo", {"os-stop": None})
PAUSE: Request = ("demo", {"pause": None})
SUSPEND: Request = ("demo", {"suspend": None})
RESIZE: Request = ("demo", {"resize": {"flavorRef": "{flavor2}"}})
RESCUE: Request = ("demo", {"rescue": {"adminPass": "MySecret1"}})
SHELVE: Request = ("demo", {"shelve": None})
DELETE: Request = ("demo", "DELETE")
ERROR: Request = ("admin", {"os-resetState": {"state": "error"}})
LOCK_BY_ADMIN: Request = ("admin", {"lock": None})
LOCK_BY_OWNER: Request = ("demo", {"lock": None})


@dataclass(frozen=True)
class Recipe:
    """`flavor`: what it is created with. `soft_delete`, `keep_on_host`: how the deployment is set while it is made."""

    steps: tuple[Request, ...] = ()
    flavor: str = "{flavor}"
    soft_delete: bool = False
    keep_on_host: bool = False


STATES: dict[str, Recipe] = {
    "ACTIVE": Recipe(),
    "SHUTOFF": Recipe((STOP,)),
    "PAUSED": Recipe((PAUSE,)),
    "SUSPENDED": Recipe((SUSPEND,)),
    "RESCUE": Recipe((RESCUE,)),
    "VERIFY_RESIZE": Recipe((RESIZE,)),
    "VERIFY_RESIZE_STOPPED": Recipe((STOP, RESIZE)),
    "ERROR": Recipe((ERROR,)),
    "ERROR_STOPPED": Recipe((STOP, ERROR)),
    "ERROR_NOHOST": Recipe(flavor="{huge}"),
    "SHELVED": Recipe((SHELVE,), keep_on_host=True),
    "SHELVED_OFFLOADED": Recipe((SHELVE,)),
    "SOFT_DELETED": Recipe((DELETE,), soft_delete=True),
    "SOFT_DELETED_STOPPED": Recipe((STOP, DELETE), soft_delete=True),
    "DELETED": Recipe((DELETE,)),
    "LOCKED_BY_OWNER": Recipe((LOCK_BY_OWNER,)),
    "HOSTDOWN_ACTIVE": Recipe(),
    "HOSTDOWN_SHUTOFF": Recipe((STOP,)),
    "HOSTDOWN_PAUSED": Recipe((PAUSE,)),
    "HOSTDOWN_ERROR": Recipe((ERROR,)),
    "HOSTDOWN_VERIFY_RESIZE": Recipe((RESIZE,)),
}


def recipe_of(state: str) -> Recipe | None:
    """The recipe of a settled state; with `LOCKED_` before its name, locked by an administrator after all else."""
    known = STATES.get(state)
    if known is None and state.startswith("LOCKED_"):
        known = STATES.get(state.removeprefix("LOCKED_"))
        return None if known is None else replace(known, steps=(*known.steps, LOCK_BY_ADMIN))
    return known


_BACKUP: Request = ("demo", {"createBackup": {"name": "bak", "backup_type": "daily", "rotation": 1}})

# The state before, and the request whose task_state then stays.
TRANSITIONS: dict[str, tuple[Recipe, Request]] = {
    "T_powering-off": (Recipe(), STOP),
    "T_powering-on": (Recipe((STOP,)), ("demo", {"os-start": None})),
    "T_pausing": (Recipe(), PAUSE),
    "T_unpausing": (Recipe((PAUSE,)), ("demo", {"unpause": None})),
    "T_suspending": (Recipe(), SUSPEND),
    "T_resuming": (Recipe((SUSPEND,)), ("demo", {"resume": None})),
    "T_rebooting": (Recipe(), ("demo", {"reboot": {"type": "SOFT"}})),
    "T_rebooting_hard": (Recipe(), ("demo", {"reboot": {"type": "HARD"}})),
    "T_rescuing": (Recipe(), RESCUE),
    "T_unrescuing": (Recipe((RESCUE,)), ("demo", {"unrescue": None})),
    "T_rebuilding": (Recipe(), ("demo", {"rebuild": {"imageRef": "{image}"}})),
    "T_resize_prep": (Recipe(), RESIZE),
    "T_resize_reverting": (Recipe((RESIZE,)), ("demo", {"revertResize": None})),
    "T_confirming": (Recipe((RESIZE,)), ("demo", {"confirmResize": None})),
    "T_shelving": (Recipe(), SHELVE),
    "T_unshelving": (Recipe((SHELVE,)), ("demo", {"unshelve": None})),
    "T_shelving_offloading": (Recipe((SHELVE,), keep_on_host=True), ("admin", {"shelveOffload": None})),
    "T_image_snapshot_pending": (Recipe(), ("demo", {"createImage": {"name": "snap"}})),
    "T_image_backup": (Recipe(), _BACKUP),
    "T_deleting": (Recipe(), DELETE),
    "T_soft-deleting": (Recipe(soft_delete=True), DELETE),
    "T_restoring": (Recipe((DELETE,), soft_delete=True), ("demo", {"restore": None})),
    "T_updating_password": (Recipe(), ("demo", {"changePassword": {"adminPass": "NewPass1"}})),
    "T_powering-off_stopped_crash_dump": (Recipe(), ("admin", {"trigger_crash_dump": None})),
}
