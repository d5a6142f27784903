"""POST /os-server-external-events: what other services tell about servers.

Ports and volumes belong to chronova itself, so such news are checked and acknowledged but change nothing; a power
update asks for the power action that it names.
"""

from __future__ import annotations

from typing import Any

from api.compute.call import Call, Reply, reply
from api.compute.carry_out import carry_out
from api.compute.dispatch import Route
from api.compute.policy import enforce
from api.compute.schemas import usage as schemas
from domain.errors import NotFound, Rejected
from domain.server import Server

_POWER = {"POWER_ON": "start", "POWER_OFF": "stop"}


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.EVENTS.check(call.version, body)
    enforce(call, "os_compute_api:os-server-external-events:create")
    shown = [await _take(call, event) for event in body["events"]]
    accepted = [one for one in shown if one["code"] == 200]
    if not accepted:
        raise NotFound("No instances found for any event")
    return reply({"events": shown}, 200 if len(accepted) == len(shown) else 207)


async def _take(call: Call, event: dict[str, Any]) -> dict[str, Any]:
    shown = {"name": event["name"], "server_uuid": event["server_uuid"], "status": event.get("status", "completed")}
    if "tag" in event:
        shown["tag"] = event["tag"]
    server = await call.services.read.server(event["server_uuid"])
    if server is None or server.deleted:
        return shown | {"status": "failed", "code": 404}
    if server.host is None:
        return shown | {"status": "failed", "code": 422}
    return shown | {"code": await _apply(call, server, event)}


async def _apply(call: Call, server: Server, event: dict[str, Any]) -> int:
    if event["name"] != "power-update":
        return 200
    command = _POWER.get(event.get("tag", ""))
    if command is None:
        return 400
    try:
        await carry_out(call, command, server.id)
    except Rejected:
        return 200  # it is in that state already, or on its way: nothing is left to do
    return 200


ROUTES = [Route("POST", "/os-server-external-events", create)]
