"""`create` through /v1: the request of the compute API in our words, carried out by that API's own code.

So a server created here meets the same policy, quota and references as one created there.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.types import Message

from api.compute import servers_create
from api.compute.call import Call
from api.http import caller, context, services
from api.v1.resolve import Lookup
from commands.context import Answer

MICROVERSION = 96


async def created(request: Request, params: dict[str, Any]) -> Answer:
    """Create one server. Raises `Rejected`."""
    at = services(request)
    look = Lookup(at, context(request))
    networks: Any = "auto"
    if "networks" in params:
        networks = [{"uuid": (await look.network(name)).id} for name in params["networks"]] or "none"
    flavor = await look.flavor(params["flavor"])
    wanted = {
        "name": params["name"],
        "flavorRef": flavor.flavor_id or flavor.id,
        "imageRef": (await look.image(params["image"])).id,
        "networks": networks,
    }
    same = ("description", "metadata", "tags", "key_name", "availability_zone", "host", "config_drive", "user_data")
    body = msgspec.json.encode({"server": wanted | {key: params[key] for key in same if key in params}})

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    request_id: str = request.scope["state"]["request_id"]
    call = Call(request.scope, receive, at, caller(request), request_id, MICROVERSION, ())
    return (await servers_create.carry_out(call)).answers[0]
