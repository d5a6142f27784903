"""/os-services: one compute service per host; enable, disable, declare dead, forget.

Only what runs on hosts is listed: parts of the control plane are watched by /readyz and /metrics.
"""

from __future__ import annotations

from typing import Any

from api.compute.call import Call, Reply, empty, flag, reply
from api.compute.dispatch import Route
from api.compute.hosts_known import all_hosts, answers, by_name, last_seen, service_id
from api.compute.policy import enforce
from api.compute.schemas import hosts as schemas
from api.compute.times import micros
from domain.errors import Conflict, Invalid, NotFound
from domain.resources import Host
from projections.rows import HostRow

BINARY = "nova-compute"


def _view(call: Call, host: Host) -> dict[str, Any]:
    body: dict[str, Any] = {
        "binary": BINARY,
        "host": host.name,
        "id": service_id(host) if call.version >= 53 else host.number,
        "zone": host.availability_zone,
        "status": "disabled" if host.disabled else "enabled",
        "state": "up" if answers(call, host) else "down",
        "updated_at": micros(last_seen(call, host)),
        "disabled_reason": host.disabled_reason,
    }
    if call.version >= 11:
        body["forced_down"] = host.forced_down
    return body


async def index(call: Call) -> Reply:
    schemas.SERVICES.check(call.version, call.query)
    enforce(call, "os_compute_api:os-services:list")
    host, binary = call.argument("host"), call.argument("binary")
    rows = [row for row in await all_hosts(call) if host in (None, row.host.name)]
    shown = [_view(call, row.host) for row in rows] if binary in (None, BINARY) else []
    return reply({"services": shown})


async def _by_id(call: Call) -> HostRow:
    wanted = call.params[0]
    for row in await all_hosts(call):
        if service_id(row.host) == wanted:
            return row
    raise NotFound(f"Service {wanted} could not be found.")


async def update(call: Call) -> Reply:
    """By id, from 2.53 on."""
    body = await call.object()
    schemas.SERVICE.check(call.version, body)
    enforce(call, "os_compute_api:os-services:update")
    row = await _by_id(call)
    if "disabled_reason" in body and body.get("status") != "disabled":
        raise Invalid("Specifying disabled_reason requires that status is set to disabled.")
    changes: dict[str, Any] = {}
    if "status" in body:
        changes["disabled"] = body["status"] == "disabled"
        changes["disabled_reason"] = body.get("disabled_reason")
    if "forced_down" in body:
        changes["forced_down"] = flag(body["forced_down"])
    if not changes:
        raise Invalid("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    host = await _change(call, row.host, changes)
    return reply({"service": _view(call, host)})


async def _change(call: Call, host: Host, changes: dict[str, Any]) -> Host:
    changed = await call.services.commands.update("host", host.id, changes, call.context, verb="administer")
    assert isinstance(changed, Host)
    return changed


async def update_by_name(call: Call) -> Reply:
    """PUT /os-services/enable and the like, until 2.52: the path names the change, the body the service."""
    action = call.params[0]
    body = await call.object()
    schemas.SERVICE.check(call.version, body)
    enforce(call, "os_compute_api:os-services:update")
    if body["binary"] != BINARY:
        raise NotFound(f"Could not find binary {body['binary']} on host {body['host']}.")
    changes, shown = _named_change(call, action, body)
    row = await by_name(call, body["host"], f"Could not find binary {BINARY} on host {body['host']}.")
    await _change(call, row.host, changes)
    return reply({"service": {"host": body["host"], "binary": BINARY} | shown})


def _named_change(call: Call, action: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields to change, and those that the answer shows."""
    if action == "enable":
        return {"disabled": False, "disabled_reason": None}, {"status": "enabled"}
    if action == "disable":
        return {"disabled": True, "disabled_reason": None}, {"status": "disabled"}
    if action == "disable-log-reason":
        if "disabled_reason" not in body:
            raise Invalid("Missing disabled reason field")
        reason = body["disabled_reason"]
        return {"disabled": True, "disabled_reason": reason}, {"status": "disabled", "disabled_reason": reason}
    if action == "force-down" and call.version >= 11:
        if "forced_down" not in body:
            raise Invalid("Missing forced_down field")
        down = flag(body["forced_down"])
        return {"forced_down": down}, {"forced_down": down}
    raise NotFound("Unknown action")


async def delete(call: Call) -> Reply:
    """Forget a host. One that still holds servers cannot be forgotten."""
    enforce(call, "os_compute_api:os-services:delete")
    if call.version >= 53:
        row = await _by_id(call)
    else:
        found = [one for one in await all_hosts(call) if str(one.host.number) == call.params[0]]
        if not found:
            raise NotFound(f"Service {call.params[0]} could not be found.")
        row = found[0]
    if row.servers:
        raise Conflict(
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first.",
            hint=f"{row.servers} servers are on {row.host.name}.",
        )
    await call.services.commands.delete("host", row.host.id, call.context)
    return empty(204)


ROUTES = [
    Route("GET", "/os-services", index),
    Route("PUT", "/os-services/{}", update_by_name, until=52),
    Route("PUT", "/os-services/{}", update, since=53),
    Route("DELETE", "/os-services/{}", delete),
]
