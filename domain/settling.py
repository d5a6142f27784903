"""What a reset-state leaves to be settled: an operation that it ended, while a host may have been at it.

A reset takes the server's word back at once; the guest may have, or lose, a device all the same. So what the operation
had taken stays taken (`Server.owed`) until the host has voided its order and the guest has what the log says: what was
being plugged in is taken out, what was being taken out is there again, a swap is turned back. Where the host was done
with its part already, the rest of the operation is done instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from domain.decide.running import public
from domain.server import Interface, Operation, Owed, Server, VolumeAttachment
from domain.workflow import has_guest
from domain.workflows import taken_by

# The host's step of a command, and the conductor's that follows it: done instead of being taken back.
_FORWARD = {
    "detach-volume": ("detach_volume", "forget_volume"),
    "swap-volume": ("swap_volume", "record_swap"),
    "extend-volume": ("extend_volume", "record_extended"),
    "detach-interface": ("detach_interface", "forget_interface"),
}


def owed_by(server: Server, operation: Operation) -> Owed | None:
    """What is owed when a reset ends this operation; None when neither a host nor the control plane did a thing."""
    if operation.command == "settle":
        return None  # what it was at is owed already
    if not has_guest(server) and taken_by(operation.command, operation.params, operation.done) is None:
        return None
    earlier: dict[str, Any] = operation.params.get("superseded", {}).get("params", {})
    port_id = earlier.get("port_id", operation.params.get("port_id"))
    interface = next((one for one in server.interfaces if one.port_id == port_id), None)
    return Owed(operation.command, operation.request_id, public(operation.params), operation.done, interface)


def _chain(owed: Owed) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """The operation and the one that it had ended itself: command, parameters, whether the host did its part."""
    own = _FORWARD.get(owed.command, ("",))[0] in owed.done
    yield owed.command, owed.params, own
    earlier = owed.params.get("superseded")
    if earlier is not None:
        yield earlier["command"], earlier["params"], False


def rest_of(server: Server, owed: Owed) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """What the control plane has to do: command, parameters, and the names of the conductor's controls."""
    if next(_chain(owed))[2]:
        yield owed.command, owed.params, (_FORWARD[owed.command][1],)
        return
    taken = taken_by(owed.command, owed.params, owed.done)
    if taken is not None and not _has_again(server, taken["params"], taken["undos"]):
        yield taken["command"], taken["params"], tuple(taken["undos"])


def _has_again(server: Server, params: dict[str, Any], undos: list[str]) -> bool:
    """Whether the server, which lost what was taken for it, got it once more since: then it is not given back again."""
    volumes = {id_ for one in server.volumes for id_ in (one.volume_id, one.replaced_by)}
    ports = {one.port_id for one in server.interfaces}
    return (
        ("release_volume" in undos and params["volume"]["id"] in volumes)
        or ("release_swap" in undos and params["new"]["id"] in volumes)
        or ("release_interface" in undos and params["port_id"] in ports)
        or ("delete_volumes" in undos and any(one.volume_id in volumes for one in server.block_devices))
    )


@dataclass
class Devices:
    """What the host has to change in the guest. Volumes to be taken out and swaps are as commands name them."""

    volumes_out: list[dict[str, Any]] = field(default_factory=list)
    volumes_in: list[VolumeAttachment] = field(default_factory=list)
    swaps: list[dict[str, Any]] = field(default_factory=list)  # {"old", "new"}
    interfaces_out: list[Interface] = field(default_factory=list)
    interfaces_in: list[Interface] = field(default_factory=list)


def devices(server: Server) -> Devices:
    found = Devices()
    for owed in server.owed:
        for command, params, is_done in _chain(owed):
            if not is_done:
                _add(found, server, command, params, owed.interface)
    return found


def _add(found: Devices, server: Server, command: str, params: dict[str, Any], interface: Interface | None) -> None:
    if command == "attach-volume" and server.attachment(params["volume"]["id"]) is None:
        found.volumes_out.append(params["volume"])
    if command == "detach-volume":
        found.volumes_in += [one for one in server.volumes if one.volume_id == params["volume_id"]]
    if command == "swap-volume" and server.attachment(params["old"]["id"]) is not None:
        found.swaps.append({"old": params["new"], "new": params["old"]})
    held = [one for one in server.interfaces if one.port_id == params.get("port_id")]
    if command == "attach-interface" and interface is not None and not held:
        found.interfaces_out.append(interface)
    if command == "detach-interface":
        found.interfaces_in += held
