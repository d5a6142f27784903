"""The rows of one server, as a pure function of the state that its newest commit carries."""

from __future__ import annotations

from typing import Any

from domain.scheduling import disk_of
from domain.server import FlavorSnapshot, Server
from projections.times import to_text

Row = tuple[Any, ...]


def server_row(server: Server, position: int, state: str) -> Row:
    """A row of `servers`, in the order of its columns."""
    flavor = server.flavor
    operation = server.operation
    return (
        server.id,
        position,
        server.version,
        server.project_id,
        server.user_id,
        server.name,
        server.description,
        server.vm_state,
        server.task_state,
        server.power_state,
        server.host,
        server.availability_zone,
        server.image_id,
        flavor.id if flavor else None,
        flavor.name if flavor else None,
        flavor.vcpus if flavor else 0,
        flavor.ram if flavor else 0,
        disk_of(flavor) if flavor else 0,
        server.key_name,
        server.hostname,
        server.instance_name,
        server.reservation_id,
        server.launch_index,
        server.progress,
        server.locked_by,
        int(server.locked),
        int(server.config_drive),
        server.disk_config,
        server.root_device_name,
        server.access_ip_v4,
        server.access_ip_v6,
        _addresses(server, 4),
        _addresses(server, 6),
        f",{','.join(server.tags)}," if server.tags else "",
        to_text(server.created_at) or "",
        to_text(server.updated_at) or "",
        to_text(server.launched_at),
        to_text(server.terminated_at),
        int(server.deleted),
        int(operation is not None and operation.stuck),
        state,
    )


def _addresses(server: Server, version: int) -> str:
    if not server.interfaces:
        return ""
    return "\n".join(ip.address for nic in server.interfaces for ip in nic.fixed_ips if ip.version == version)


def placement_rows(server: Server) -> tuple[Row, ...]:
    """What a server takes from hosts: rows of `placement`, in the order of its columns.

    A server counts on its host from the moment one was chosen until it is deleted or offloaded. While it is being
    resized, and until that is confirmed or reverted, the old and the new flavor both count.
    """
    if server.vm_state in ("shelved_offloaded", "deleted"):
        return ()
    rows: list[Row] = []
    if server.host is not None and server.flavor is not None:
        rows.append(_placed(server, "current", server.host, server.flavor))
    if server.resize is not None:
        record = server.resize
        if server.flavor == record.old_flavor and server.host == record.source_host:
            rows.append(_placed(server, "pending", record.dest_host, record.new_flavor))
        else:
            rows.append(_placed(server, "source", record.source_host, record.old_flavor))
    return tuple(rows)


def _placed(server: Server, role: str, host: str, flavor: FlavorSnapshot) -> Row:
    # A server that boots from a volume takes no room for its root disk.
    disk = disk_of(flavor) if server.image_id is not None else flavor.ephemeral
    return server.id, role, host, flavor.vcpus, flavor.ram, disk
