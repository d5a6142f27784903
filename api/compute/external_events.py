"""POST /os-server-external-events: what other services tell about servers.

Ports belong to chronova itself, so news of them are checked and acknowledged but change nothing. A power update asks
for the power action that it names; a volume that was extended is shown to its guest with the size that it has.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from api.compute.call import Call, Reply, reply
from api.compute.carry_out import carry_out
from api.compute.dispatch import Route
from api.compute.policy import enforce
from api.compute.schemas import usage as schemas
from domain.errors import NotFound, Rejected
from domain.resources import Volume
from domain.server import Server

_POWER = {"POWER_ON": "start", "POWER_OFF": "stop"}
_TAGGED = frozenset({"volume-extended", "power-update", "accelerator-request-bound", "volume-reimaged"})


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
    name, tag = event["name"], event.get("tag", "")
    if (name in _TAGGED and not tag) or (name == "power-update" and tag not in _POWER):
        return shown | {"status": "failed", "code": 400}
    if server.host is None:
        return shown | {"status": "failed", "code": 422}
    with suppress(Rejected):  # it is in that state already, or on its way: nothing is left to do
        if name == "power-update":
            await carry_out(call, _POWER[tag], server.id)
        elif name == "volume-extended":
            await _show_size(call, server, tag)
    return shown | {"code": 200}


async def _show_size(call: Call, server: Server, volume_id: str) -> None:
    attachment = server.attachment(volume_id)
    volume = cast("Volume | None", await call.services.read.resource("volume", volume_id))
    if attachment is None or volume is None or volume.status != "in-use":
        return
    spec = {"id": volume_id} | {key: getattr(attachment, key) for key in ("path", "disk_format", "size_gb")}
    params = {"volume": spec, "size_gb": volume.size_gb}
    await call.services.commands.server("extend-volume", server.id, params, replace(call.context, internal=True))


ROUTES = [Route("POST", "/os-server-external-events", create)]
