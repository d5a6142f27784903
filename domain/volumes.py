"""The rules of volumes: what may happen to one, and what follows. decide(volume, ...) -> the fields that change.

Every function is pure. It gets the volume as the log has it, returns its new values (none: it holds already, so each
bears being done twice), or raises `Rejected` in Cinder's words. The states are Cinder's:

creating -> available -> reserved (kept for a server) -> attaching -> in-use -> detaching -> available; besides these
extending, uploading, reverting, deleting (work on its file) and error.
"""

from __future__ import annotations

from typing import Any

from domain.errors import Invalid, NotFound
from domain.resources import Volume, VolumeSnapshot

MOST_GIB = 16384
DELETABLE = ("available", "error", "error_restoring", "error_extending", "error_managing")
RESETTABLE = ("available", "in-use", "error", "creating", "deleting", "attaching", "detaching", "maintenance")
SNAPSHOT_RESETTABLE = ("available", "error", "creating", "deleting", "error_deleting")
_HELD = ("reserved", "attaching")
_DETACH_FIRST = "Detach it from its server first"
_WAIT = "Wait until its work has ended"

Changes = dict[str, Any]
_FREE: Changes = {"status": "available", "reserved_for": "", "reservation": ""}


def _hint(volume: Volume) -> str:
    return _DETACH_FIRST if volume.attachments or volume.reserved_for else _WAIT


def _holds(volume: Volume, server_id: str) -> bool:
    return any(one["server_id"] == server_id for one in volume.attachments)


# --- a server's use of it ---------------------------------------------------------------------------------------------


def reserve(volume: Volume, server_id: str, token: str) -> Changes:
    """Keep it for a server: of two that want it at once, one is refused. The same `token` again is the same request."""
    if (volume.status, volume.reserved_for, volume.reservation) == ("reserved", server_id, token):
        return {}
    if volume.status != "available":
        raise Invalid(
            f"Invalid volume: status must be 'available'. Current status: '{volume.status}'",
            hint="Detach it from the other server, or wait.",
            reason="volume",
        )
    return {"status": "reserved", "reserved_for": server_id, "reservation": token}


def reserve_for_new(volume: Volume, server_id: str, token: str) -> Changes:
    """The same for a server that is about to be created: a repeat of its request finds the volume on its way to it."""
    if volume.reserved_for == server_id or _holds(volume, server_id):
        return {}
    return reserve(volume, server_id, token)


def unreserve(volume: Volume, token: str) -> Changes:
    """The request that kept it is refused. A volume that is not kept by it, or taken already, stays as it is."""
    return _FREE if (volume.status, volume.reservation) == ("reserved", token) else {}


def begin_attach(volume: Volume, server_id: str) -> Changes:
    """The command that it is kept for takes it."""
    if _holds(volume, server_id) or (volume.status == "attaching" and volume.reserved_for == server_id):
        return {}
    if volume.status == "reserved" and volume.reserved_for == server_id:
        return {"status": "attaching"}
    return reserve(volume, server_id, "") | {"status": "attaching"}


def attached(volume: Volume, attachment: Changes) -> Changes:
    """The guest of `attachment["server_id"]` has it."""
    others = [one for one in volume.attachments if one["server_id"] != attachment["server_id"]]
    wanted = {"status": "in-use", "attachments": [*others, attachment], "reserved_for": "", "reservation": ""}
    return {} if volume.status == "in-use" and [*volume.attachments] == wanted["attachments"] else wanted


def must_be_detachable(volume: Volume) -> None:
    """A volume that hangs in attaching or detaching can be let go again too."""
    if volume.status not in ("in-use", *_HELD, "detaching"):
        raise Invalid(
            f"Invalid volume: Volume status must be 'in-use'. Current status: '{volume.status}'",
            hint="Wait until its work has ended.",
            reason="volume",
        )


def begin_detach(volume: Volume) -> Changes:
    must_be_detachable(volume)
    return {"status": "detaching"} if volume.status != "detaching" else {}


def roll_detaching(volume: Volume, server_id: str) -> Changes:
    """The guest kept it."""
    return {"status": "in-use"} if volume.status == "detaching" and _holds(volume, server_id) else {}


def detached(volume: Volume, server_id: str) -> Changes:
    """Nothing of the server is at it any more: neither an attachment nor a reservation."""
    if _holds(volume, server_id):
        others = [one for one in volume.attachments if one["server_id"] != server_id]
        return _FREE | {"status": "in-use" if others else "available", "attachments": others}
    if volume.reserved_for != server_id:
        return {}
    return _FREE if volume.status in _HELD else {"reserved_for": "", "reservation": ""}


def must_be_able_to_replace(new: Volume, old: Volume) -> None:
    """Whether `new` may take the place of `old` in a guest that uses it."""
    if new.id == old.id:
        raise Invalid(f"Invalid volume: volume {old.id} cannot be swapped with itself", hint="Name another volume.")
    if old.status != "in-use":
        raise Invalid(f"Invalid volume: Old volume status must be 'in-use'. Current status: '{old.status}'")
    if new.size_gb < old.size_gb:
        raise Invalid(
            "Invalid volume: New volume must be the same size or larger.",
            hint=f"The old one has {old.size_gb} GB, the new one {new.size_gb}.",
        )


# --- its size ---------------------------------------------------------------------------------------------------------


def begin_extend(volume: Volume, size_gb: int) -> Changes:
    """It may be in use: then its guest is told."""
    if volume.status not in ("available", "in-use"):
        raise Invalid(
            f"Invalid volume: Volume {volume.id} status must be available or in-use, "
            f"but current status is: {volume.status}",
            hint=_WAIT,
        )
    if size_gb <= volume.size_gb:
        raise Invalid(
            f"New size for extend must be greater than current size. (current: {volume.size_gb}, new: {size_gb})"
        )
    return {"status": "extending"}


def extended(volume: Volume, size_gb: int) -> Changes:
    return {"status": _at_rest(volume), "size_gb": max(size_gb, volume.size_gb), "fault": ""}


def not_extended(volume: Volume) -> Changes:
    """Nothing was changed: it is what it was."""
    return {"status": _at_rest(volume)} if volume.status == "extending" else {}


def not_copied(volume: Volume) -> Changes:
    """Its copy was cut off; it is what it was."""
    return {"status": "available"} if volume.status in ("uploading", "reverting") else {}


def _at_rest(volume: Volume) -> str:
    return "in-use" if volume.attachments else "available"


# --- its file ---------------------------------------------------------------------------------------------------------


def begin_work(volume: Volume, status: str) -> Changes:
    """Work that needs the file for itself: uploading, reverting."""
    must_be_available(volume)
    return {"status": status}


def must_be_available(volume: Volume) -> None:
    if volume.status != "available":
        raise Invalid(
            f"Invalid volume: Volume {volume.id} status must be available, but current status is: {volume.status}",
            hint=_hint(volume),
        )


def must_be_copyable(volume: Volume, *, in_use: bool) -> None:
    """Whether a snapshot can be taken now. `in_use`: the caller asks for it though a server may write to it."""
    if volume.status == "in-use" and in_use:
        return
    if volume.status != "available":
        raise Invalid(
            f"Invalid volume: Volume {volume.id} status must be available{' or in-use' if in_use else ''}, "
            f"but current status is: {volume.status}.",
            hint="Use --force, or microversion 3.66: the volume is copied while its server uses it."
            if volume.status == "in-use"
            else _WAIT,
        )


def snapshot_made(snapshot: VolumeSnapshot) -> Changes:
    """Its file is whole. One that nobody waits for any more stays what it is."""
    return {"status": "available"} if snapshot.status == "creating" else {}


def snapshot_spoilt(snapshot: VolumeSnapshot) -> Changes:
    """It will not be made."""
    return {"status": "error"} if snapshot.status == "creating" else {}


def revert(volume: Volume, snapshot: VolumeSnapshot) -> Changes:
    if snapshot.volume_id != volume.id or snapshot.status != "available":
        raise Invalid("A volume is reverted to an available snapshot of its own")
    return begin_work(volume, "reverting")


def begin_delete(volume: Volume, *, force: bool = False) -> Changes:
    in_use = bool(volume.attachments or volume.reserved_for)
    if in_use or (volume.status not in DELETABLE and not force):
        raise Invalid(
            "Invalid volume: Volume status must be available or error or error_restoring or error_extending or "
            f"error_managing and must not be attached, but current status is: {volume.status}",
            hint=_hint(volume),
        )
    return {"status": "deleting"}


def begin_delete_snapshot(snapshot: VolumeSnapshot, *, force: bool = False) -> Changes:
    if snapshot.status not in ("available", "error") and not force:
        raise Invalid(f"Invalid snapshot: its status is {snapshot.status}, it has to be available or error")
    return {"status": "deleting"}


# --- what operators and owners set ------------------------------------------------------------------------------------


def reset_status(volume: Volume, status: str, *, detached: bool) -> Changes:
    """An administrator says what is true. `detached`: no server has it."""
    if status not in RESETTABLE:
        raise Invalid(f"status has to be one of {', '.join(RESETTABLE)}")
    changes: Changes = {"status": status}
    if detached:
        changes["attachments"] = []
    if detached or status == "available":
        changes |= {"reserved_for": "", "reservation": ""}
    return changes


def reset_snapshot_status(snapshot: VolumeSnapshot, status: str) -> Changes:
    """An administrator says what is true."""
    if status not in SNAPSHOT_RESETTABLE:
        raise Invalid(f"status has to be one of {', '.join(SNAPSHOT_RESETTABLE)}")
    return {"status": status}


def add_metadata(volume: Volume | VolumeSnapshot, given: dict[str, str], *, replace: bool) -> Changes:
    return {"metadata": given if replace else volume.metadata | given}


def remove_metadata(volume: Volume | VolumeSnapshot, key: str) -> Changes:
    if key not in volume.metadata:
        raise NotFound(f"Metadata item {key} was not found")
    return {"metadata": {name: value for name, value in volume.metadata.items() if name != key}}


def add_image_metadata(volume: Volume, given: dict[str, str]) -> Changes:
    return {"image_metadata": volume.image_metadata | given}


def remove_image_metadata(volume: Volume, key: str) -> Changes:
    return {"image_metadata": {name: value for name, value in volume.image_metadata.items() if name != key}}
