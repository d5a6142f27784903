"""libvirt's lifecycle events in words, for the history of a server."""

from __future__ import annotations

import libvirt

from domain.orders import PowerStateName

_REASONS: dict[tuple[int, int], str] = {
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED): "started outside chronova",
    (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED): "resumed outside chronova",
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED): "paused outside chronova",
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR): "stopped by an I/O error",
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG): "stopped by its watchdog",
    (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED): "unpaused outside chronova",
    (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED): "guest powered itself off",
    (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST): "guest powered itself off",
    (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST): "stopped outside chronova",
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN): "guest powered itself off",
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED): "stopped outside chronova",
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED): "guest crashed",
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED): "the guest's QEMU process died",
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED): "suspended outside chronova",
    (libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED): "guest crashed",
    (libvirt.VIR_DOMAIN_EVENT_UNDEFINED, libvirt.VIR_DOMAIN_EVENT_UNDEFINED_REMOVED): "removed outside chronova",
}
_RUNS: frozenset[PowerStateName] = frozenset({"running"})
_STANDS: frozenset[PowerStateName] = frozenset({"paused", "crashed"})
_OFF: frozenset[PowerStateName] = frozenset({"nostate", "shutdown", "crashed", "suspended"})
_LEADS_TO: dict[int, frozenset[PowerStateName]] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: frozenset(),  # a definition is written with every order, and switches nothing
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: frozenset({"nostate"}),
    libvirt.VIR_DOMAIN_EVENT_STARTED: _RUNS,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: _RUNS,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: _STANDS,
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: _OFF,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: _OFF,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: _OFF,
}


def leads_to(event: int, state: PowerStateName) -> bool:
    """Whether an event of this kind may leave a guest in this state; yes of one that does not say."""
    states = _LEADS_TO.get(event)
    return states is None or state in states


def reason_of(event: int, detail: int, before: PowerStateName | None) -> str:
    if event == libvirt.VIR_DOMAIN_EVENT_RESUMED and before != "paused":
        event, detail = libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED  # its first half
    return _REASONS.get((event, detail), "changed outside chronova")
