"""Actions that change a server's flavor or host: resize, migrations, evacuation.

Hosts are changed by none of them yet: what the checks here and the machine let pass is refused by the decision (501).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from api.compute import passwords, quota
from api.compute.action import Action
from api.compute.call import Call, Reply, empty, flag, reply
from api.compute.carry_out import carry_out, must_be_legal, state_comes_first
from api.compute.lookups import flavor_of, server_of
from domain.errors import Conflict, Invalid, NotFound
from domain.flavors import snapshot


async def _resize(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    server = await server_of(call, server_id, "os_compute_api:servers:resize")
    with state_comes_first(call, "resize", server):
        try:
            flavor = await flavor_of(call, str(value["flavorRef"]))
        except NotFound as error:
            raise Invalid(error.message) from error
    wanted = snapshot(flavor)
    give = partial(carry_out, call, "resize", server_id, {"flavor": msgspec.to_builtins(wanted)})
    await quota.resized(call, server, wanted, give)
    return empty(202)


async def must_exist(call: Call, host: str) -> None:
    """Raise `NotFound` for a host that is not known."""
    if all(known.host.name != host for known in await call.services.read.hosts()):
        raise NotFound(f"Compute host {host} not found.")


async def _migrate(call: Call, server_id: str, value: Any) -> Reply:
    host = value.get("host") if call.version >= 56 and isinstance(value, dict) else None
    if host is not None:
        server = await server_of(call, server_id, "os_compute_api:os-migrate-server:migrate:host")
        if server.host == host:
            raise Invalid("Cannot migrate to same host.", hint=f"The server is on {host} already.")
        await _destination(call, host)
    await carry_out(call, "migrate", server_id, {"host": host} if host else {})
    return empty(202)


async def _destination(call: Call, host: str) -> None:
    try:
        await must_exist(call, host)
    except NotFound as error:
        raise Invalid(f"Compute host {host} could not be found.") from error


async def _live_migrate(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    host = value["host"]
    params: dict[str, Any] = {"block_migration": value["block_migration"]}
    if host is not None:
        server = await server_of(call, server_id, "os_compute_api:os-migrate-server:migrate_live:host")
        if server.host == host:
            raise Invalid(f"Unable to migrate instance ({server_id}) to current host ({host}).")
        await _destination(call, host)
        params["host"] = host
    if call.version >= 30:
        params["force"] = flag(value.get("force", False))
    await carry_out(call, "live-migrate", server_id, params)
    return empty(202)


async def _evacuate(call: Call, server_id: str, value: dict[str, Any]) -> Reply:
    server = await server_of(call, server_id, "os_compute_api:os-evacuate")
    host = value.get("host")
    if host is not None:
        await must_exist(call, host)
        if host == server.host:
            raise Conflict(
                "The target host can't be the same one.",
                hint="Name another host or none.",
                code=400,
                reason="same_host",
            )
    must_be_legal(call, "evacuate", server)
    if server.host is not None and call.services.commands.hosts.is_up(server.host):
        raise Invalid(
            f"Compute service of {server.host} is still in use.", hint="Evacuation is for hosts that are down."
        )
    password = passwords.given_or_new(value)
    params: dict[str, Any] = {"admin_password": password}
    if host is not None:
        params["host"] = host
    await carry_out(call, "evacuate", server_id, params)
    if call.version >= 14:
        return empty(200)
    return reply({} if flag(value["onSharedStorage"]) else {"adminPass": password})


ACTIONS: dict[str, Action] = {
    "resize": Action(_resize),
    "migrate": Action(_migrate),
    "os-migrateLive": Action(_live_migrate),
    "evacuate": Action(_evacuate),
}
