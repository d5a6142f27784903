"""A hypervisor that only remembers: thousands of servers in one process, for scale, faults and machines without QEMU.

It carries out every order kind with the state rules of a real one, as fast or slow and as unreliably as its options
say (see `simulated_faults`). Further options: `capacity` (`{"vcpus", "memory_mb", "disk_gb"}`; spawning beyond it
fails; by default everything fits), `unsupported`, and `persist` (default true: guests outlive the agent in a file, see
`simulated_guests`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec

from domain.filters import HostFilters
from domain.orders import (
    GuestSpec,
    HostInventory,
    NicSpec,
    Order,
    OrderKind,
    PowerStateName,
    VolumeSpec,
)
from hypervisor_agent import simulated_volumes
from hypervisor_agent.driver import (
    ConsoleAddress,
    ConsoleKind,
    Done,
    GuestSeen,
    LifecycleEvent,
    OrderFailed,
    Progress,
    Unsupported,
)
from hypervisor_agent.flavors import new_hardware
from hypervisor_agent.simulated_faults import Faults
from hypervisor_agent.simulated_guests import GuestStore, Hardware, SimulatedGuest

Details = dict[str, Any]


class Capacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vcpus: int = 1_000_000
    memory_mb: int = 4_000_000_000
    disk_gb: int = 4_000_000


class SimulatedDriver:
    """See the module. Only the event loop that opened it may call it."""

    name = "simulated"

    def __init__(self, host: str, data_dir: Path, options: Mapping[str, Any]) -> None:
        self._host = host
        self._faults = Faults(options)
        self._unsupported = frozenset(options.get("unsupported", ()))
        self._capacity = msgspec.convert(options.get("capacity", {}), Capacity)
        self._store = GuestStore(data_dir / "simulated.jsonl" if options.get("persist", True) else None)
        self._callbacks: list[Callable[[LifecycleEvent], None]] = []
        self._started_at: datetime | None = None
        self._used = Hardware(0, 0, 0)

    async def open(self) -> None:
        self._store.open()
        self._used = Hardware(0, 0, 0)
        for guest in self._store.guests.values():
            if guest.defined:
                self._use(guest.hardware, 1)
        self._started_at = datetime.now(UTC)

    async def close(self) -> None:
        self._store.close()

    async def inventory(self) -> HostInventory:
        return HostInventory(
            host=self._host,
            driver=self.name,
            hypervisor_type="simulated",
            hypervisor_version=1,
            vcpus=self._capacity.vcpus,
            memory_mb=self._capacity.memory_mb,
            disk_gb=self._capacity.disk_gb,
            cpu_info={"arch": "x86_64", "model": "simulated", "vendor": "chronova", "topology": {}, "features": []},
            capabilities=tuple(kind for kind in get_args(OrderKind) if kind not in self._unsupported),
            started_at=self._started_at,
        )

    async def guests(self) -> list[GuestSeen]:
        return [
            GuestSeen(guest.server_id, guest.power_state, guest.generation, guest.instance_name)
            for guest in self._store.guests.values()
            if guest.defined
        ]

    async def filter_ports(self, filters: HostFilters) -> None:
        raise Unsupported("A simulated host has no network, so it filters nothing.")

    async def console_output(self, server_id: str, lines: int | None) -> str:
        guest = self._guest(server_id)
        return "\n".join(guest.console if lines is None else guest.console[-lines:] if lines else []) + "\n"

    async def diagnostics(self, server_id: str) -> dict[str, Any]:
        guest = self._guest(server_id)
        return {
            "state": guest.power_state,
            "driver": self.name,
            "hypervisor": "simulated",
            "hypervisor_os": "none",
            "config_drive": guest.config_drive,
            "num_cpus": guest.hardware.vcpus,
            "num_nics": len(guest.nics),
            "num_disks": 1 + len(guest.volumes),
            "cpu_details": [{"id": number, "time": 0, "utilisation": 0} for number in range(guest.hardware.vcpus)],
            "memory_details": {"maximum": guest.hardware.memory_mb, "used": guest.hardware.memory_mb},
            "nic_details": [{"mac_address": nic.mac} for nic in guest.nics.values()],
            "disk_details": [{} for _ in range(1 + len(guest.volumes))],
        }

    async def console_address(self, server_id: str, kind: ConsoleKind) -> ConsoleAddress:
        raise Unsupported(f"A simulated server has no {kind} console; its output can be read.")

    def on_lifecycle(self, callback: Callable[[LifecycleEvent], None]) -> None:
        self._callbacks.append(callback)

    def power_off_by_guest(self, server_id: str) -> None:
        """What happens when somebody types `poweroff` inside the guest."""
        self._by_itself(server_id, "shutdown", "guest powered itself off")

    def crash_guest(self, server_id: str) -> None:
        self._by_itself(server_id, "crashed", "guest crashed")

    def start_outside(self, server_id: str) -> None:
        """What an administrator's `virsh start` does."""
        self._by_itself(server_id, "running", "started outside chronova")

    def _by_itself(self, server_id: str, power_state: PowerStateName, reason: str) -> None:
        guest = self._guest(server_id)
        guest.power_state = power_state
        self._store.keep(guest)
        for callback in self._callbacks:
            callback(LifecycleEvent(server_id, power_state, reason))

    async def carry_out(self, order: Order, progress: Progress) -> Done:
        guest = self._store.guests.get(order.server_id)
        known = self._store.generation(order.server_id)
        if known is not None and order.generation < known:
            raise OrderFailed(
                "superseded",
                f"Order {order.id} is of generation {order.generation}; the guest is already at {known}. Drop it.",
                power_state=guest.power_state if guest else None,
            )
        if order.kind in self._unsupported:
            raise Unsupported(f"This simulated host was told not to know {order.kind}.")
        if guest is not None and guest.order_id == order.id and order.kind != "console_output":
            return Done(guest.power_state, {"repeated": True})
        await self._faults.delay(order, lambda percent: progress(percent, "copy disk"))
        self._faults.check(order, after=False)
        if order.kind in ("destroy", "offload"):
            self._forget(order)
            self._faults.check(order, after=True)
            return Done("nostate")
        guest = self._store.guests.get(order.server_id)
        if guest is None and order.kind == "settle":
            return Done("nostate")
        guest = guest or self._new_guest(order)
        details = _ACTIONS[order.kind](self, guest, order) or {}
        guest.generation, guest.order_id = order.generation, order.id
        self._store.keep(guest)
        self._faults.check(order, after=True)
        progress(100, order.kind)
        return Done(guest.power_state, details)

    def _guest(self, server_id: str) -> SimulatedGuest:
        guest = self._store.guests.get(server_id)
        if guest is None:
            raise _no_guest(server_id, self._host)
        return guest

    def _forget(self, order: Order) -> None:
        guest = self._store.guests.get(order.server_id)
        if guest is not None and guest.defined:
            self._use(guest.hardware, -1)
        self._store.forget(order.server_id, order.generation)

    def _new_guest(self, order: Order) -> SimulatedGuest:
        if order.kind not in ("create_disk", "config_drive", "spawn"):
            raise _no_guest(order.server_id, self._host)
        spec = order.spec
        return SimulatedGuest(
            server_id=order.server_id,
            instance_name=spec.instance_name,
            name=spec.name,
            hardware=_hardware(spec),
            image_id=spec.image.id if spec.image else None,
        )

    def _use(self, hardware: Hardware, times: int) -> None:
        used = self._used
        self._used = Hardware(
            used.vcpus + times * hardware.vcpus,
            used.memory_mb + times * hardware.memory_mb,
            used.disk_gb + times * hardware.disk_gb,
        )

    def _claim(self, hardware: Hardware) -> None:
        used, most = self._used, self._capacity
        for what in ("vcpus", "memory_mb", "disk_gb"):
            if getattr(used, what) + getattr(hardware, what) > getattr(most, what):
                raise OrderFailed(
                    "no_capacity",
                    f"Host {self._host} has no room: {what} {getattr(used, what)} of {getattr(most, what)} are used "
                    f"and {getattr(hardware, what)} more are needed. Use another host or a smaller flavor.",
                )
        self._use(hardware, 1)

    def _create_disk(self, guest: SimulatedGuest, order: Order) -> None:
        guest.image_id = order.spec.image.id if order.spec.image else None

    def _config_drive(self, guest: SimulatedGuest, order: Order) -> None:
        guest.config_drive = True

    def _spawn(self, guest: SimulatedGuest, order: Order) -> None:
        if not guest.defined:
            guest.hardware = _hardware(order.spec)
            self._claim(guest.hardware)
            guest.defined = True
        guest.nics = {nic.port_id: nic for nic in order.spec.nics}
        guest.volumes = {volume.id: volume for volume in order.spec.volumes}
        self._power_on(guest, order)

    def _power_on(self, guest: SimulatedGuest, order: Order) -> None:
        if guest.power_state == "suspended":
            guest.power_state = "running"
        elif guest.power_state != "running":
            guest.boot()

    def _power_off(self, guest: SimulatedGuest, order: Order) -> None:
        guest.power_state = "shutdown"

    def _reboot(self, guest: SimulatedGuest, order: Order) -> None:
        guest.boot()

    def _pause(self, guest: SimulatedGuest, order: Order) -> None:
        _from(guest, order, "running", "paused")
        guest.power_state = "paused"

    def _unpause(self, guest: SimulatedGuest, order: Order) -> None:
        _from(guest, order, "paused", "running")
        guest.power_state = "running"

    def _suspend(self, guest: SimulatedGuest, order: Order) -> None:
        _from(guest, order, "running", "paused", "suspended")
        guest.power_state = "suspended"

    def _resume(self, guest: SimulatedGuest, order: Order) -> None:
        _from(guest, order, "suspended", "running")
        guest.power_state = "running"

    def _rescue(self, guest: SimulatedGuest, order: Order) -> None:
        if guest.rescued_from is None:
            guest.rescued_from = guest.power_state
            guest.boot()

    def _unrescue(self, guest: SimulatedGuest, order: Order) -> None:
        if guest.rescued_from is not None:
            guest.rescued_from = None
            guest.boot()

    def _rebuild(self, guest: SimulatedGuest, order: Order) -> None:
        guest.image_id = order.spec.image.id if order.spec.image else guest.image_id
        guest.boots = 0
        guest.boot()

    def _snapshot(self, guest: SimulatedGuest, order: Order) -> Details:
        path = Path(order.params["image_path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"snapshot of the simulated server {guest.server_id}, image {guest.image_id}\n")
        return {"image_path": str(path), "size": path.stat().st_size, "virtual_size": guest.hardware.disk_gb << 30}

    def _resize(self, guest: SimulatedGuest, order: Order) -> None:
        if guest.resized_from is not None:
            return
        self._use(guest.hardware, -1)
        wanted = new_hardware(order)
        try:
            self._claim(Hardware(*wanted))
        except OrderFailed:
            self._use(guest.hardware, 1)
            raise
        guest.resized_from, guest.hardware = guest.hardware, Hardware(*wanted)
        if guest.power_state == "running":
            guest.boot()

    def _resize_confirm(self, guest: SimulatedGuest, order: Order) -> None:
        guest.resized_from = None

    def _resize_revert(self, guest: SimulatedGuest, order: Order) -> None:
        if guest.resized_from is None:
            return
        self._use(guest.hardware, -1)
        self._use(guest.resized_from, 1)
        guest.hardware, guest.resized_from = guest.resized_from, None
        if guest.power_state == "running":
            guest.boot()

    def _set_password(self, guest: SimulatedGuest, order: Order) -> None:
        _from(guest, order, "running")
        guest.password_user = order.params.get("username") or "root"

    def _crash_dump(self, guest: SimulatedGuest, order: Order) -> None:
        _from(guest, order, "running", "paused")
        guest.say("Kernel panic - not syncing: NMI received")

    def _attach_volume(self, guest: SimulatedGuest, order: Order) -> Details:
        volume = msgspec.convert(order.params["volume"], VolumeSpec)
        taken = {known.device for known in guest.volumes.values() if known.id != volume.id}
        letters = (f"/dev/vd{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")
        device = volume.device or next((free for free in letters if free not in taken), None)
        if device is None or device in taken:
            raise OrderFailed("device_in_use", f"Device {device or 'vdb to vdz'} is taken. Detach a volume first.")
        guest.volumes[volume.id] = msgspec.structs.replace(volume, device=device)
        return {"device": device}

    def _detach_volume(self, guest: SimulatedGuest, order: Order) -> None:
        volume_id = msgspec.convert(order.params["volume"], VolumeSpec).id
        _can_let_go(guest, volume_id in guest.volumes, f"volume {volume_id}")
        guest.volumes.pop(volume_id, None)

    def _swap_volume(self, guest: SimulatedGuest, order: Order) -> Details:
        old = msgspec.convert(order.params["old"], VolumeSpec)
        new = msgspec.convert(order.params["new"], VolumeSpec)
        before = guest.volumes.pop(old.id, None)
        if before is None and new.id not in guest.volumes:
            raise OrderFailed("volume_not_attached", f"Volume {old.id} is not attached. Attach it first.")
        if before is not None:
            guest.volumes[new.id] = msgspec.structs.replace(new, device=before.device, boot_index=before.boot_index)
        return {"device": guest.volumes[new.id].device}

    def _extend_volume(self, guest: SimulatedGuest, order: Order) -> None:
        volume_id, size_gb = order.params["volume"]["id"], order.params["size_gb"]
        known = guest.volumes.get(volume_id)
        if known is None:
            raise OrderFailed("volume_not_attached", f"Volume {volume_id} is not attached. Attach it first.")
        simulated_volumes.grow(known, size_gb)
        guest.volumes[volume_id] = msgspec.structs.replace(known, size_gb=size_gb)

    def _snapshot_volumes(self, guest: SimulatedGuest, order: Order) -> None:
        for wanted in order.params["snapshots"]:
            known = guest.volumes.get(wanted["volume_id"])
            if known is None:
                raise OrderFailed("volume_not_attached", f"Volume {wanted['volume_id']} is not attached.")
            simulated_volumes.copy(known, Path(wanted["path"]))

    def _attach_interface(self, guest: SimulatedGuest, order: Order) -> None:
        nic = msgspec.convert(order.params["nic"], NicSpec)
        guest.nics[nic.port_id] = nic

    def _detach_interface(self, guest: SimulatedGuest, order: Order) -> None:
        nic = msgspec.convert(order.params["nic"], NicSpec)
        _can_let_go(guest, nic.port_id in guest.nics, f"interface {nic.mac}")
        guest.nics.pop(nic.port_id, None)

    def _settle(self, guest: SimulatedGuest, order: Order) -> None:
        for swap in order.params.get("swaps", ()):
            old, new = (msgspec.convert(swap[key], VolumeSpec) for key in ("old", "new"))
            swapped = guest.volumes.pop(old.id, None)
            if swapped is not None:
                guest.volumes[new.id] = msgspec.structs.replace(new, device=swapped.device)
        for one in order.params.get("volumes_out", ()):
            guest.volumes.pop(msgspec.convert(one, VolumeSpec).id, None)
        for volume in msgspec.convert(order.params.get("volumes_in", ()), list[VolumeSpec]):
            guest.volumes.setdefault(volume.id, volume)
        for one in order.params.get("nics_out", ()):
            guest.nics.pop(msgspec.convert(one, NicSpec).port_id, None)
        for nic in msgspec.convert(order.params.get("nics_in", ()), list[NicSpec]):
            guest.nics.setdefault(nic.port_id, nic)

    def _console_output(self, guest: SimulatedGuest, order: Order) -> Details:
        length = order.params.get("length")
        lines = guest.console if length is None else guest.console[-length:] if length else []
        return {"output": "\n".join(lines) + "\n"}


def _hardware(spec: GuestSpec) -> Hardware:
    return Hardware(spec.vcpus, spec.memory_mb, spec.disk_gb)


def _no_guest(server_id: str, host: str) -> OrderFailed:
    return OrderFailed("no_guest", f"Host {host} has no guest {server_id}. Rebuild or delete the server.")


def _can_let_go(guest: SimulatedGuest, has: bool, what: str) -> None:
    if has and guest.power_state == "paused":
        raise OrderFailed(
            "guest_paused",
            f"A paused guest cannot let go of {what}. Unpause the server first, then try again.",
            power_state="paused",
        )


def _from(guest: SimulatedGuest, order: Order, *states: PowerStateName) -> None:
    if guest.power_state not in states:
        raise OrderFailed(
            "wrong_power_state",
            f"{order.kind} needs a guest that is {' or '.join(states)}; it is {guest.power_state}. Start it first.",
            power_state=guest.power_state,
        )


_ACTIONS: dict[OrderKind, Callable[[SimulatedDriver, SimulatedGuest, Order], Details | None]] = {
    "create_disk": SimulatedDriver._create_disk,
    "config_drive": SimulatedDriver._config_drive,
    "spawn": SimulatedDriver._spawn,
    "power_on": SimulatedDriver._power_on,
    "power_off": SimulatedDriver._power_off,
    "reboot_soft": SimulatedDriver._reboot,
    "reboot_hard": SimulatedDriver._reboot,
    "pause": SimulatedDriver._pause,
    "unpause": SimulatedDriver._unpause,
    "suspend": SimulatedDriver._suspend,
    "resume": SimulatedDriver._resume,
    "rescue": SimulatedDriver._rescue,
    "unrescue": SimulatedDriver._unrescue,
    "rebuild": SimulatedDriver._rebuild,
    "snapshot": SimulatedDriver._snapshot,
    "resize": SimulatedDriver._resize,
    "resize_confirm": SimulatedDriver._resize_confirm,
    "resize_revert": SimulatedDriver._resize_revert,
    "set_password": SimulatedDriver._set_password,
    "crash_dump": SimulatedDriver._crash_dump,
    "attach_volume": SimulatedDriver._attach_volume,
    "detach_volume": SimulatedDriver._detach_volume,
    "swap_volume": SimulatedDriver._swap_volume,
    "extend_volume": SimulatedDriver._extend_volume,
    "snapshot_volumes": SimulatedDriver._snapshot_volumes,
    "attach_interface": SimulatedDriver._attach_interface,
    "detach_interface": SimulatedDriver._detach_interface,
    "settle": SimulatedDriver._settle,
    "console_output": SimulatedDriver._console_output,
}
