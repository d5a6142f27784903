"""One server: show, update, delete."""

from __future__ import annotations

from typing import Any

from api.compute.call import Call, Reply, empty, reply
from api.compute.carry_out import carry_out
from api.compute.dispatch import Route
from api.compute.lookups import full_view, server_of
from api.compute.schemas import servers as schemas
from api.compute.servers_view import full, updated

_FIELDS = {
    "name": "name",
    "description": "description",
    "hostname": "hostname",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "OS-DCF:diskConfig": "disk_config",
}


async def show(call: Call) -> Reply:
    server = await server_of(call, call.params[0], "os_compute_api:servers:show")
    view = await full_view(call, [server])
    answer = reply({"server": full(view, server)})
    answer.headers.append((b"etag", f'"{server.version}"'.encode()))
    return answer


async def update(call: Call) -> Reply:
    body = await call.object()
    schemas.UPDATE.check(call.version, body)
    wanted: dict[str, Any] = body["server"]
    params = {ours: wanted[theirs] for theirs, ours in _FIELDS.items() if theirs in wanted}
    if params.get("description") == "":
        params["description"] = None
    answer = await carry_out(call, "update", call.params[0], params)
    view = await full_view(call, [answer.server])
    return reply({"server": updated(view, answer.server)})


async def delete(call: Call) -> Reply:
    """Deleted servers are kept for a while where the operator wants it (soft delete); one never launched is not."""
    server_id = call.params[0]
    command = "delete"
    if call.services.commands.settings.reclaim_seconds > 0:
        server = await server_of(call, server_id)
        if server.launched_at is not None and server.vm_state not in {"soft-delete", "deleted"}:
            command = "soft-delete"
    await carry_out(call, command, server_id)
    return empty(204)


ROUTES = [
    Route("GET", "/servers/{}", show),
    Route("PUT", "/servers/{}", update),
    Route("DELETE", "/servers/{}", delete),
]
