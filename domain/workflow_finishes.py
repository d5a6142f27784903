"""What success leads to: for each workflow the patch of its last event."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from domain.server import FlavorSnapshot, Operation, ResizeRecord, Server
from domain.workflow import Finish, has_guest


def powered(vm_state: str, power_state: str) -> Finish:
    def finish(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
        return {"vm_state": vm_state, "power_state": power_state}

    return finish


def created(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    return {"vm_state": "active", "power_state": "running", "launched_at": at}


def deleted(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "vm_state": "deleted",
        "power_state": "nostate",
        "terminated_at": at,
        "guest_exists": False,
        "interfaces": (),
        "volumes": (),
        "locked_by": None,
        "resize": None,
        "owed": (),
    }


def soft_deleted(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    return {"vm_state": "soft-delete", "power_state": "shutdown", "soft_deleted_at": at}


def restored(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    if not has_guest(server):  # it had left its host before it was deleted: it comes back as it was
        return {"vm_state": "shelved_offloaded", "soft_deleted_at": None}
    return {"vm_state": "active", "power_state": "running", "soft_deleted_at": None}


def rescued(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    return {"vm_state": "rescued", "power_state": "running", "rescue_image_id": operation.params["image"]["id"]}


def unrescued(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    return {"vm_state": "active", "power_state": "running", "rescue_image_id": None}


def rebuilt(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    if operation.vm_state_before == "stopped":
        return {"vm_state": "stopped", "power_state": "shutdown"}
    return {"vm_state": "active", "power_state": "running", "launched_at": at}


def resized(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    record = resize_record(server, operation, at)
    return {"vm_state": "resized", "resize": record, "flavor": record.new_flavor}


def resize_record(server: Server, operation: Operation, at: datetime) -> ResizeRecord:
    """What the resize that `operation` is doing will have to be confirmed or reverted by."""
    assert server.flavor is not None
    assert server.host is not None
    return ResizeRecord(
        old_flavor=server.flavor,
        new_flavor=msgspec.convert(operation.params["flavor"], FlavorSnapshot),
        source_host=server.host,
        dest_host=server.host,
        migration_type="resize",
        old_vm_state=operation.vm_state_before,
        finished_at=at,
    )


def _was_running(server: Server) -> bool:
    return server.resize is None or server.resize.old_vm_state == "active"


def confirmed(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    running = _was_running(server)
    return {"vm_state": "active" if running else "stopped", "resize": None}


def reverted(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    running = _was_running(server)
    patch: dict[str, Any] = {
        "vm_state": "active" if running else "stopped",
        "power_state": "running" if running else "shutdown",
        "resize": None,
    }
    if server.resize is not None:
        patch["flavor"] = server.resize.old_flavor
    return patch


def shelved(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    patch = {"power_state": "shutdown"} | on_the_shelf(server, operation, at)
    if offloads_at_once(server):
        return patch | offloaded(server, operation, at, details)
    return patch | {"vm_state": "shelved"}


def on_the_shelf(server: Server, operation: Operation, at: datetime) -> dict[str, Any]:
    """What a shelved server has to come back from, offloaded or not."""
    return {"shelved_image_id": None if server.volume_backed else operation.params.get("image_id"), "shelved_at": at}


def offloaded(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "vm_state": "shelved_offloaded",
        "power_state": "shutdown",
        "host": None,
        "host_id": None,
        "guest_exists": False,
    }


def unshelved(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "vm_state": "active",
        "power_state": "running",
        "shelved_image_id": None,
        "shelved_at": None,
        "launched_at": at,
        "guest_exists": True,
    }


def offloads_at_once(server: Server) -> bool:
    """Where the deployment says so; and without a disk of its own nothing speaks for staying."""
    return server.operation is not None and (bool(server.operation.params.get("offload")) or server.volume_backed)
