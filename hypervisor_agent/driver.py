"""The one port between an agent and a hypervisor, and the choice of what stands behind it.

A driver makes orders true and says what it sees; it decides nothing. Guarantees every driver gives:

- An order is an "ensure": repeating it, also after a `kill -9` in its middle, completes it and does no more. The
  guest's own metadata keeps the id and generation of the last order done. The same order again is answered from what
  holds now; an order of an older generation is refused with the code `superseded`.
- A failure is an `OrderFailed` whose fault says what happened and what to do; `changed` says whether something of the
  order may already hold. `Unsupported` means that the driver can not do such an order at all and touched nothing.
- `carry_out` may be cancelled between its sub steps; whatever was begun by then is completed by repeating the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from domain.filters import HostFilters
from domain.orders import Fault, HostInventory, Order, PowerStateName, SubStep

LET_GO_LATE = "the guest let go of a device after its detach had given up waiting"
DriverName = Literal["auto", "libvirt", "libvirt-test", "simulated"]
ConsoleKind = Literal["vnc", "serial"]
ConsoleAddress = tuple[Literal["tcp"], str, int] | tuple[Literal["unix"], str]
Progress = Callable[[int, str], None]  # percent, what is being done


class OrderFailed(Exception):
    """An order could not be made true. `power_state` is what the guest shows now, null when it is not known."""

    def __init__(
        self,
        code: str,
        message: str,
        details: str = "",
        *,
        power_state: PowerStateName | None = None,
        changed: bool = False,
    ) -> None:
        super().__init__(message)
        self.fault = Fault(code=code, message=message, details=details)
        self.power_state = power_state
        self.changed = changed


class Unsupported(OrderFailed):
    """The driver has no way to do this; nothing was tried and nothing has changed."""

    def __init__(self, message: str, details: str = "", *, power_state: PowerStateName | None = None) -> None:
        super().__init__("unsupported", message, details, power_state=power_state)


@dataclass
class Done:
    """An order holds. `power_state` is null when the order left no guest that has one."""

    power_state: PowerStateName | None
    details: dict[str, Any] = field(default_factory=dict)
    sub_steps: tuple[SubStep, ...] = ()


@dataclass(frozen=True)
class GuestSeen:
    """A guest as the hypervisor shows it, for reconciliation. `generation` 0: nobody ever stamped it."""

    server_id: str
    power_state: PowerStateName
    generation: int
    instance_name: str
    let_go: tuple[str, ...] = ()


@dataclass(frozen=True)
class LifecycleEvent:
    """A guest changed by itself or by somebody else's hand, not by an order that was being carried out.

    `let_go`, here and above: ids of volumes and ports that the guest let go of after the order had given up waiting.
    """

    server_id: str
    power_state: PowerStateName
    reason: str
    let_go: tuple[str, ...] = ()


class Driver(Protocol):
    """What an agent asks of a hypervisor. Open it before, close it after; every call else is safe in any order."""

    name: str

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def inventory(self) -> HostInventory: ...

    async def carry_out(self, order: Order, progress: Progress) -> Done: ...

    async def filter_ports(self, filters: HostFilters) -> None: ...

    async def guests(self) -> list[GuestSeen]: ...

    async def console_output(self, server_id: str, lines: int | None) -> str: ...

    async def diagnostics(self, server_id: str) -> dict[str, Any]: ...

    async def console_address(self, server_id: str, kind: ConsoleKind) -> ConsoleAddress: ...

    def on_lifecycle(self, callback: Callable[[LifecycleEvent], None]) -> None:
        """Call back, on the event loop that opened the driver, for every change that no order caused."""


# What each driver can be told; see their modules.
OPTIONS: Mapping[str, frozenset[str]] = {
    "simulated": frozenset({"latency", "failures", "unsupported", "seed", "capacity", "persist"}),
    "libvirt": frozenset({"stop_guests", "uri"}),
    "libvirt-test": frozenset({"stop_guests"}),
}


def must_know(name: str, options: Iterable[str]) -> None:
    """Raises `ValueError` for options that a driver does not have: of any, when the name is `auto`."""
    known = OPTIONS.get(name, frozenset[str]().union(*OPTIONS.values()))
    unknown = sorted(set(options) - known)
    if unknown:
        whose = f"the driver {name}" if name in OPTIONS else "any driver"
        raise ValueError(f"{', '.join(unknown)} is no option of {whose}; known are {', '.join(sorted(known))}")


def make_driver(name: str, host: str, data_dir: Path, options: Mapping[str, Any] | None = None) -> Driver:
    """The driver of that name for one host. `data_dir` is the host's own directory; `auto` takes the best there is.

    Raises `ValueError` for an unknown name or option, and `OrderFailed` (code `driver_unavailable`) for a driver that
    this machine lacks.
    """
    given = dict(options or {})
    if name == "auto":
        name = best_driver()
    if name in OPTIONS:
        must_know(name, given)
    if name == "simulated":
        from hypervisor_agent.simulated import SimulatedDriver

        return SimulatedDriver(host, data_dir, given)
    if name not in ("libvirt", "libvirt-test"):
        raise ValueError(f"no driver {name!r}; use one of auto, libvirt, libvirt-test, simulated")
    try:
        import libvirt  # noqa: F401 - only whether it is there: the drivers below import it themselves
    except ImportError as error:
        raise OrderFailed(
            "driver_unavailable",
            "The libvirt bindings are not installed. Install libvirt-python, or use --driver simulated.",
            str(error),
        ) from error
    if name == "libvirt-test":
        from hypervisor_agent.libvirt.test_driver import LibvirtTestDriver

        return LibvirtTestDriver(host, data_dir, given)
    from hypervisor_agent.libvirt.driver import LibvirtDriver

    return LibvirtDriver(host, data_dir, given)


def best_driver() -> DriverName:
    """libvirt where QEMU and a libvirtd of our own can run, else libvirt's test driver, else the simulated one."""
    try:
        import libvirt  # noqa: F401 - only whether it is there
    except ImportError:
        return "simulated"
    from hypervisor_agent.libvirt.machine import can_run_libvirtd

    return "libvirt" if can_run_libvirtd() else "libvirt-test"
