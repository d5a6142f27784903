"""What the history calls a command: Nova's action name where Nova has one, else our own, marked as internal.

An internal action is shown by our history and left out of Nova's os-instance-actions.
"""

from __future__ import annotations

from functools import cache

from domain.machine import MACHINE

# A change that the hypervisor showed on its own has no command; it is named by the vm_state that it led to.
_OBSERVED = {
    "stopped": ("stop", "compute_stop_instance"),
    "active": ("start", "compute_start_instance"),
    "paused": ("pause", "compute_pause_instance"),
    "suspended": ("suspend", "compute_suspend_instance"),
}


@cache
def action_of(command: str) -> tuple[str, bool]:
    """The action's name, and whether it is internal. Total: an unknown command keeps its own name."""
    try:
        action = MACHINE.rule(command).action
    except KeyError:
        action = None
    return (action, False) if action else (command, True)


def observed_action_of(command: str, vm_state: str, changed: bool) -> tuple[str, bool, str | None]:
    """Action, whether it is internal, and Nova's event, of something observed that left the server in `vm_state`."""
    if not changed or vm_state not in _OBSERVED:
        return command, True, None
    action, event = _OBSERVED[vm_state]
    return action, False, event
