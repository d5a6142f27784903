"""POST /servers: looking up everything that a new server refers to, then one command per server.

What is wrong with the request is said in Nova's order: its form, the policy, the things it names, the quota. Nothing is
appended before all of that has passed.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import msgspec

from api.compute import passwords, quota, server_groups
from api.compute.call import Call, Reply, flag, reply
from api.compute.create_networks import networks_of, security_groups_of
from api.compute.create_volumes import FIRST, Earlier, boot_source
from api.compute.dispatch import Route
from api.compute.keys import public_key_of
from api.compute.lookups import flavor_of
from api.compute.policy import enforce
from api.compute.schemas import servers as schemas
from api.compute.servers_view import created, hrefs, view_of
from api.volumes_kept import all_kept
from commands.context import Answer
from domain.decide import NewServer
from domain.errors import Invalid, NotFound, Rejected
from domain.flavors import snapshot
from domain.resources import Flavor, ServerGroup

MOST_AT_ONCE = 1000  # servers of one request
MOST_HINTS = 4096  # bytes: hints are kept with the server in every commit
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Target:
    """Where the creator wants the server: a zone, and a host that only administrators may name."""

    zone: str | None = None
    host: str | None = None


@dataclass(frozen=True)
class Created:
    """What a request led to: one answer for each server."""

    wanted: dict[str, Any]
    answers: list[Answer]
    reservation_id: str
    password: str


async def create(call: Call) -> Reply:
    made = await carry_out(call)
    if flag(made.wanted.get("return_reservation_id", False)):
        return reply({"reservation_id": made.answers[0].server.reservation_id or made.reservation_id}, 202)
    view, first = view_of(call), made.answers[0].server
    return reply({"server": created(view, first, made.password)}, 202, location=hrefs(view, "servers", first.id)[0])


async def carry_out(call: Call) -> Created:
    """Everything but the answer's form. Raises `Rejected`."""
    body = await call.object()
    schemas.CREATE.check(call.version, body)
    wanted: dict[str, Any] = body["server"]
    hints: dict[str, Any] = body.get("os:scheduler_hints") or body.get("OS-SCH-HNT:scheduler_hints") or {}
    if len(msgspec.json.encode(hints)) > MOST_HINTS:
        raise Invalid(f"The scheduler hints are longer than {MOST_HINTS} bytes.")
    enforce(call, "os_compute_api:servers:create")
    _must_be_served(wanted)
    low, high = _counts(wanted)
    target = await _target(call, wanted)
    flavor = await _flavor(call, wanted)
    earlier = await _earlier(call)
    source = await boot_source(call, wanted, flavor, high, earlier)
    group = await _group(call, hints)
    fields: dict[str, Any] = {
        "project_id": call.project_id,
        "user_id": call.caller.actor.user_id,
        "flavor": snapshot(flavor),
        "reservation_id": f"r-{''.join(secrets.choice(_ALPHABET) for _ in range(8))}",
        "image_id": source.image_id,
        "image_properties": source.image_properties,
        "block_devices": source.block_devices,
        "root_tag": source.root_tag,
        "description": wanted.get("description") or None,
        "metadata": wanted.get("metadata", {}),
        "tags": tuple(dict.fromkeys(wanted.get("tags", ()))),
        "networks": await networks_of(call, wanted, high),
        "security_groups": await security_groups_of(call, wanted),
        "availability_zone": target.zone,
        "forced_host": target.host,
        "scheduler_hints": hints,
        "server_group": group.id if group is not None else None,
        "access_ip_v4": wanted.get("accessIPv4"),
        "access_ip_v6": wanted.get("accessIPv6"),
        "disk_config": wanted.get("OS-DCF:diskConfig", "MANUAL"),
    }
    if wanted.get("key_name"):
        fields["key_name"] = wanted["key_name"]
        fields["public_key"] = await public_key_of(call, wanted["key_name"], call.caller.actor.user_id)
    if wanted.get("user_data"):
        fields["user_data"] = wanted["user_data"]
    async with quota.room(call, snapshot(flavor), low, high, partial(_ids, call)) as ids:
        await quota.check_items(call, wanted)
        fields["admin_password"] = password = _password(call, wanted)
        servers = [_new(wanted, fields, index, ids) for index in range(len(ids))]
        reserved = [] if earlier.created else source.reserved
        async with all_kept(call.services.commands, reserved, ids[0], call.context):
            answers = await _created(call, servers, group)
    return Created(wanted, answers, fields["reservation_id"], password)


def _must_be_served(wanted: dict[str, Any]) -> None:
    """Refuse what would otherwise be silently left out."""
    if wanted.get("personality"):
        raise Invalid("Files cannot be injected.", hint="Write them with user_data, which the config drive carries.")
    if wanted.get("trusted_image_certificates"):
        raise Invalid("Image signatures are not verified here, so no certificates can be trusted.")


def _counts(wanted: dict[str, Any]) -> tuple[int, int]:
    low = int(wanted.get("min_count", 1))
    high = int(wanted.get("max_count", low))
    if low > high:
        raise Invalid("min_count must be <= max_count")
    if high > MOST_AT_ONCE:
        raise Invalid(f"max_count must be <= {MOST_AT_ONCE}", hint="Send several requests.")
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
        zones = ", ".join(sorted({row.host.availability_zone for row in rows})) or "none: no host is registered"
        raise Invalid("The requested availability zone is not available", hint=f"There are: {zones}.")
    return Target(zone, host)


async def _flavor(call: Call, wanted: dict[str, Any]) -> Flavor:
    try:
        flavor = await flavor_of(call, str(wanted["flavorRef"]))
    except NotFound as error:
        raise Invalid(error.message) from error
    return flavor


async def _group(call: Call, hints: dict[str, Any]) -> ServerGroup | None:
    named = hints.get("group")
    group_id = named[0] if isinstance(named, list) else named
    if group_id is None:
        return None
    group = await server_groups.find(call, group_id)
    if group is None:
        raise Invalid(f"Instance group {group_id} could not be found.")
    return group


def _ids(call: Call, count: int) -> list[str]:
    """New ids; with an idempotency key always the same for it, as `commands` makes them."""
    key, actor = call.context.idempotency_key, call.caller.actor
    if key is None:
        return [str(uuid4()) for _ in range(count)]
    return [str(uuid5(NAMESPACE_OID, f"{actor.project_id}:{actor.user_id}:{key}:{index}")) for index in range(count)]


async def _earlier(call: Call) -> Earlier:
    """What an earlier request with the same idempotency key may have left."""
    if call.context.idempotency_key is None:
        return FIRST
    (server_id,) = _ids(call, 1)
    return Earlier(server_id, created=await call.services.commands.load_server(server_id) is not None)


def _password(call: Call, wanted: dict[str, Any]) -> str:
    """The one asked for, else a new one; repeating a request with its key has to make the same one again."""
    if "adminPass" in wanted:
        return str(wanted["adminPass"])
    if call.context.idempotency_key is None:
        return passwords.generate()
    return passwords.derived(call.services.settings.data_dir, _ids(call, 1)[0])


async def _created(call: Call, servers: list[NewServer], group: ServerGroup | None) -> list[Answer]:
    """Create them; as members of their group from before they are placed."""
    if group is None:
        return await call.services.commands.create_servers(servers, call.context)
    ids = [server.id for server in servers]
    await server_groups.join(call, group, ids)
    try:
        return await call.services.commands.create_servers(servers, call.context)
    except Rejected:
        await server_groups.leave(call, group, ids)
        raise


def _new(wanted: dict[str, Any], fields: dict[str, Any], index: int, ids: list[str]) -> NewServer:
    server_id, count = ids[index], len(ids)
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
