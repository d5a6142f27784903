"""POST /servers: looking up everything that a new server refers to, then one command per server.

What is wrong with the request is said in Nova's order: its form, the policy, the things it names, the quota. Nothing is
appended before all of that has passed.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from api.compute import passwords, quota
from api.compute.actions_move import snapshot
from api.compute.call import Call, Reply, flag, reply
from api.compute.create_networks import networks_of, security_groups_of
from api.compute.create_volumes import boot_source
from api.compute.dispatch import Route
from api.compute.keys import public_key_of
from api.compute.lookups import flavor_of
from api.compute.policy import enforce
from api.compute.schemas import servers as schemas
from api.compute.servers_view import created, hrefs, view_of
from commands.context import Answer
from domain.decide_create import NewServer
from domain.errors import Invalid, NotFound
from domain.resources import Flavor, ServerGroup

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Target:
    """Where the creator wants the server: a zone, and a host that only administrators may name."""

    zone: str | None = None
    host: str | None = None


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.CREATE.check(call.version, body)
    wanted: dict[str, Any] = body["server"]
    hints: dict[str, Any] = body.get("os:scheduler_hints") or body.get("OS-SCH-HNT:scheduler_hints") or {}
    enforce(call, "os_compute_api:servers:create")
    low, high = _counts(wanted)
    target = await _target(call, wanted)
    flavor = await _flavor(call, wanted)
    source = await boot_source(call, wanted, flavor)
    fields: dict[str, Any] = {
        "project_id": call.project_id,
        "user_id": call.caller.actor.user_id,
        "flavor": snapshot(flavor),
        "reservation_id": f"r-{''.join(secrets.choice(_ALPHABET) for _ in range(8))}",
        "image_id": source.image_id,
        "image_properties": source.image_properties,
        "description": wanted.get("description") or None,
        "metadata": wanted.get("metadata", {}),
        "tags": tuple(dict.fromkeys(wanted.get("tags", ()))),
        "config_drive": flag(wanted.get("config_drive", False)),
        "networks": await networks_of(call, wanted, high),
        "security_groups": await security_groups_of(call, wanted),
        "availability_zone": target.zone,
        "forced_host": target.host,
        "scheduler_hints": hints,
        "server_group": await _group(call, hints),
        "access_ip_v4": wanted.get("accessIPv4"),
        "access_ip_v6": wanted.get("accessIPv6"),
        "disk_config": wanted.get("OS-DCF:diskConfig", "MANUAL"),
    }
    if wanted.get("key_name"):
        fields["key_name"] = wanted["key_name"]
        fields["public_key"] = await public_key_of(call, wanted["key_name"], call.caller.actor.user_id)
    if wanted.get("user_data"):
        fields["user_data"] = wanted["user_data"]
    count = await quota.fitting(call, snapshot(flavor), low, high)
    await quota.check_items(call, wanted)
    password = wanted.get("adminPass") or passwords.generate()
    servers = [_new(wanted, fields, index, count, password) for index in range(count)]
    answers = await call.services.commands.create_servers(servers, call.context)
    return _answer(call, wanted, answers, fields["reservation_id"], password)


def _answer(call: Call, wanted: dict[str, Any], answers: list[Answer], reservation_id: str, password: str) -> Reply:
    if flag(wanted.get("return_reservation_id", False)):
        return reply({"reservation_id": answers[0].server.reservation_id or reservation_id}, 202)
    view = view_of(call)
    first = answers[0].server
    return reply({"server": created(view, first, password)}, 202, location=hrefs(view, "servers", first.id)[0])


def _counts(wanted: dict[str, Any]) -> tuple[int, int]:
    low = int(wanted.get("min_count", 1))
    high = int(wanted.get("max_count", low))
    if low > high:
        raise Invalid("min_count must be <= max_count")
    return low, high


async def _target(call: Call, wanted: dict[str, Any]) -> Target:
    zone, host = wanted.get("availability_zone"), None
    if zone is not None and ":" in zone:
        parts = zone.split(":")
        if len(parts) > 3:
            raise Invalid("Unable to parse availability_zone")
        zone, host = parts[0] or None, next((part for part in parts[1:] if part), None)
        if host is not None:
            enforce(call, "os_compute_api:servers:create:forced_host")
    asked = wanted.get("host") or wanted.get("hypervisor_hostname")
    if asked is not None:
        enforce(call, "compute:servers:create:requested_destination")
        if host is not None:
            raise Invalid("Only one of a host in availability_zone and host may be given.")
        host = asked
    rows = await call.services.read.hosts() if host or zone else []
    if host is not None and all(row.host.name != host for row in rows):
        raise Invalid(f"Compute host {host} could not be found.")
    if zone is not None and all(row.host.availability_zone != zone for row in rows):
        raise Invalid("The requested availability zone is not available")
    return Target(zone, host)


async def _flavor(call: Call, wanted: dict[str, Any]) -> Flavor:
    try:
        flavor = await flavor_of(call, str(wanted["flavorRef"]))
    except NotFound as error:
        raise Invalid(error.message) from error
    return flavor


async def _group(call: Call, hints: dict[str, Any]) -> str | None:
    group = hints.get("group")
    group_id: str | None = group[0] if isinstance(group, list) else group
    if group_id is None:
        return None
    found = await call.services.read.resource("server_group", group_id)
    if (
        not isinstance(found, ServerGroup)
        or found.deleted
        or not (call.is_admin or found.project_id == call.project_id)
    ):
        raise Invalid(f"Instance group {group_id} could not be found.")
    return group_id


def _new(wanted: dict[str, Any], fields: dict[str, Any], index: int, count: int, password: str) -> NewServer:
    server_id = str(uuid4())
    name = wanted["name"] if count == 1 else f"{wanted['name']}-{index + 1}"
    hostname = wanted.get("hostname") or hostname_of(name, server_id)
    if wanted.get("hostname") and count > 1:
        hostname = f"{hostname}-{index + 1}"
    return NewServer(
        id=server_id,
        name=name,
        hostname=hostname,
        instance_name=f"instance-{server_id.replace('-', '')[:12]}",
        launch_index=index,
        admin_password=password,
        **fields,
    )


def hostname_of(name: str, server_id: str) -> str:
    """A host name made from a server's name: what DNS allows of it, else one made from the id."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[ _]", "-", plain)
    plain = re.sub(r"[^\w.-]+", "", plain).lower().strip(".-")
    plain = plain.replace(".", "-")[:63].rstrip("-")
    return plain or f"Server-{server_id}"


ROUTES = [Route("POST", "/servers", create)]
