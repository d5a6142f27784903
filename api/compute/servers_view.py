"""A server as the API shows it: one function per representation, every field by microversion.

Built from `domain.server.Server` alone, plus what a `View` knows of the surroundings: the status of hosts and the text
of user data. Pure, and cheap: some ten microseconds per server in detail.
Source of fields and versions: Nova's API reference for servers, and the recorded answers in tests/conformance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha224
from typing import Any

import msgspec

from api.compute.call import Call
from api.compute.times import micros, seconds
from domain.server import FlavorSnapshot, Server
from domain.states import FAULT_SHOWN, POWER_STATES, PROGRESS_SHOWN, status


@dataclass(frozen=True)
class View:
    """What a representation depends on beside the server. `admin`: show what only administrators may see."""

    version: int
    root: str
    project_path: str
    admin: bool
    host_statuses: Mapping[str, str] = field(default_factory=dict)
    user_data: Mapping[str, str] = field(default_factory=dict)


def view_of(
    call: Call, host_statuses: Mapping[str, str] | None = None, user_data: Mapping[str, str] | None = None
) -> View:
    return View(call.version, call.root, call.project_path, call.is_admin, host_statuses or {}, user_data or {})


@lru_cache(maxsize=4096)
def host_id(project_id: str | None, host: str | None) -> str:
    """The name of a host that tells a project whether two servers share it, and nothing more."""
    return sha224(f"{project_id or ''}{host}".encode()).hexdigest() if host else ""


def hrefs(view: View, kind: str, id_: str) -> tuple[str, str]:
    """The address of a resource under the version, and the one without it that bookmarks use."""
    path = f"{view.project_path}/{kind}/{id_}"
    return f"{view.root}/v2.1{path}", f"{view.root}{path}"


def links(view: View, kind: str, id_: str) -> msgspec.Raw:
    """Both links, encoded: ids and addresses hold nothing that JSON escapes, and lists are long."""
    own, bookmark = hrefs(view, kind, id_)
    return msgspec.Raw(f'[{{"rel":"self","href":"{own}"}},{{"rel":"bookmark","href":"{bookmark}"}}]'.encode())


def reference(view: View, kind: str, id_: str) -> msgspec.Raw:
    """A resource named inside another one: its id and its bookmark, encoded."""
    href = hrefs(view, kind, id_)[1]
    return msgspec.Raw(f'{{"id":"{id_}","links":[{{"rel":"bookmark","href":"{href}"}}]}}'.encode())


def brief(view: View, server: Server) -> dict[str, Any]:
    """As in GET /servers."""
    return {"id": server.id, "name": server.name, "links": links(view, "servers", server.id)}


def created(view: View, server: Server, admin_password: str | None) -> dict[str, Any]:
    """As POST /servers answers."""
    body: dict[str, Any] = {
        "id": server.id,
        "links": links(view, "servers", server.id),
        "OS-DCF:diskConfig": server.disk_config,
        "security_groups": [{"name": name} for name in server.security_groups],
    }
    if admin_password is not None:
        body["adminPass"] = admin_password
    return body


def flavor(view: View, snapshot: FlavorSnapshot | None) -> dict[str, Any] | msgspec.Raw:
    """The flavor inside a server: embedded from 2.47 on, a reference before."""
    if snapshot is None:
        return {}
    if view.version < 47:
        return reference(view, "flavors", snapshot.id)
    return {
        "vcpus": snapshot.vcpus,
        "ram": snapshot.ram,
        "disk": snapshot.disk,
        "ephemeral": snapshot.ephemeral,
        "swap": snapshot.swap,
        "original_name": snapshot.name,
        "extra_specs": snapshot.extra_specs,
    }


def addresses(server: Server, *, extended: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Network name to addresses; `extended` adds the address type and the MAC."""
    found: dict[str, list[dict[str, Any]]] = {}
    for interface in server.interfaces:
        entries = found.setdefault(interface.network_name, [])
        for ip in interface.fixed_ips:
            entry: dict[str, Any] = {"version": ip.version, "addr": ip.address}
            if extended:
                entry["OS-EXT-IPS:type"] = "fixed"
                entry["OS-EXT-IPS-MAC:mac_addr"] = interface.mac
            entries.append(entry)
    return found


def basic(view: View, server: Server, *, extended: bool = False) -> dict[str, Any]:
    """What PUT and rebuild answered before 2.75, and the first part of everything longer."""
    version = view.version
    shown = status(server.vm_state, server.task_state)
    body: dict[str, Any] = {
        "id": server.id,
        "name": server.name,
        "status": shown,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "hostId": host_id(server.project_id, server.host),
        "image": reference(view, "images", server.image_id) if server.image_id else "",
        "flavor": flavor(view, server.flavor),
        "created": seconds(server.created_at),
        "updated": seconds(server.updated_at),
        "addresses": addresses(server, extended=extended),
        "accessIPv4": server.access_ip_v4 or "",
        "accessIPv6": server.access_ip_v6 or "",
        "links": links(view, "servers", server.id),
        "OS-DCF:diskConfig": server.disk_config,
    }
    if shown in PROGRESS_SHOWN:
        body["progress"] = server.progress
    if shown in FAULT_SHOWN and server.fault is not None:
        body["fault"] = _fault(view, server)
    if version >= 9:
        body["locked"] = server.locked
    if version >= 19:
        body["description"] = server.description
    if version >= 26:
        body["tags"] = server.tags
    if version >= 63:
        body["trusted_image_certificates"] = None
    if version >= 73:
        body["locked_reason"] = server.locked_reason
    return body


def _fault(view: View, server: Server) -> dict[str, Any]:
    fault = server.fault
    assert fault is not None
    body = {"code": fault.code, "created": seconds(fault.created), "message": fault.message}
    if fault.details and (view.admin or fault.code != 500):
        body["details"] = fault.details
    return body


def detail(view: View, server: Server) -> dict[str, Any]:
    """As in GET /servers/detail."""
    version = view.version
    body = basic(view, server, extended=True)
    body["key_name"] = server.key_name
    body["config_drive"] = "True" if server.config_drive else ""
    body["OS-EXT-STS:vm_state"] = server.vm_state
    body["OS-EXT-STS:task_state"] = server.task_state
    body["OS-EXT-STS:power_state"] = POWER_STATES.get(server.power_state, 0)
    body["OS-SRV-USG:launched_at"] = micros(server.launched_at)
    body["OS-SRV-USG:terminated_at"] = micros(server.terminated_at)
    body["OS-EXT-AZ:availability_zone"] = server.availability_zone
    body["os-extended-volumes:volumes_attached"] = [
        {"id": volume.volume_id, "delete_on_termination": volume.delete_on_termination}
        if version >= 3
        else {"id": volume.volume_id}
        for volume in server.volumes
    ]
    if server.interfaces and server.security_groups:
        body["security_groups"] = [{"name": name} for name in server.security_groups]
    if version >= 90:
        body["OS-EXT-SRV-ATTR:hostname"] = server.hostname
    if version >= 96:
        body["pinned_availability_zone"] = server.pinned_availability_zone
    if view.admin:
        _administrative(view, server, body)
    return body


def _administrative(view: View, server: Server, body: dict[str, Any]) -> None:
    body["OS-EXT-SRV-ATTR:host"] = server.host
    body["OS-EXT-SRV-ATTR:hypervisor_hostname"] = server.host
    body["OS-EXT-SRV-ATTR:instance_name"] = server.instance_name
    if view.version >= 3:
        properties = server.image_properties
        body["OS-EXT-SRV-ATTR:hostname"] = server.hostname
        body["OS-EXT-SRV-ATTR:kernel_id"] = properties.get("kernel_id", "")
        body["OS-EXT-SRV-ATTR:ramdisk_id"] = properties.get("ramdisk_id", "")
        body["OS-EXT-SRV-ATTR:launch_index"] = server.launch_index
        body["OS-EXT-SRV-ATTR:reservation_id"] = server.reservation_id
        body["OS-EXT-SRV-ATTR:root_device_name"] = server.root_device_name
        body["OS-EXT-SRV-ATTR:user_data"] = view.user_data.get(server.user_data_id or "")
    if view.version >= 16:
        body["host_status"] = view.host_statuses.get(server.host, "UNKNOWN") if server.host else ""


def full(view: View, server: Server) -> dict[str, Any]:
    """As in GET /servers/{id}."""
    body = detail(view, server)
    if view.version >= 71:
        body["server_groups"] = [server.server_group] if server.server_group else []
    return body


def updated(view: View, server: Server) -> dict[str, Any]:
    """As PUT /servers/{id} answers."""
    return full(view, server) if view.version >= 75 else basic(view, server)


def rebuilt(view: View, server: Server, admin_password: str | None) -> dict[str, Any]:
    """As the rebuild action answers."""
    body = updated(view, server)
    if view.version >= 54:
        body["key_name"] = server.key_name
    if view.version >= 57:
        body["user_data"] = view.user_data.get(server.user_data_id or "")
        body.pop("OS-EXT-SRV-ATTR:user_data", None)
    if admin_password is not None:
        body["adminPass"] = admin_password
    return body
