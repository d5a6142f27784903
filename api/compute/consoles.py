"""Consoles: the address of one, with a token that opens it once and for a while (see `api.console`)."""

from __future__ import annotations

import asyncio

from api.compute.call import Call, Reply, reply
from api.compute.carry_out import must_be_legal
from api.compute.dispatch import Route
from api.compute.lookups import server_of
from api.compute.policy import enforce
from api.compute.schemas import consoles as schemas
from api.console.grants import SUPPORTED, grant, read_token
from domain.errors import Invalid, NotFound


async def open_console(call: Call, server_id: str, protocol: str, kind: str) -> str:
    """The address of a fresh console. Raises `Rejected` when the server has none now."""
    server = await server_of(call, server_id, "os_compute_api:os-remote-consoles")
    must_be_legal(call, "remote-console", server)
    if SUPPORTED.get(kind) != protocol:
        raise _refusal(protocol, kind)
    console = await grant(call.services, server, kind, call.caller.actor.user_id)
    return console.address(call.root.removesuffix("/compute"))


def _refusal(protocol: str, kind: str) -> Invalid:
    """As Nova: a protocol that is off has nothing to open, one that is on does not know the other's types."""
    if protocol not in SUPPORTED.values():
        return Invalid(f"Unavailable console type {kind}.", hint=f"There is {' and '.join(sorted(SUPPORTED))}.")
    if kind in SUPPORTED:
        hint = f"It is of the protocol {SUPPORTED[kind]}, not {protocol}."
    else:
        hint = f"With {protocol} it is {' or '.join(one for one, of in SUPPORTED.items() if of == protocol)}."
    return Invalid(f"Invalid console type {kind}", hint=hint)


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.CREATE.check(call.version, body)
    wanted = body["remote_console"]
    url = await open_console(call, call.params[0], wanted["protocol"], wanted["type"])
    return reply({"remote_console": wanted | {"url": url}})


async def show(call: Call) -> Reply:
    enforce(call, "os_compute_api:os-console-auth-tokens")
    found = await asyncio.to_thread(read_token, call.services.settings.data_dir, call.params[0])
    if found is None:
        raise NotFound("The console token is not valid or has expired.", hint="Ask for a new console.")
    shown = {"instance_uuid": found.server_id, "host": found.host, "port": 0, "internal_access_path": None}
    return reply({"console": shown})


ROUTES = [
    Route("POST", "/servers/{}/remote-consoles", create, since=6),
    Route("GET", "/os-console-auth-tokens/{}", show),
]
