"""Consoles: a token that opens the console of one server for a while, and the address that takes it.

The token is a sealed note (who may look at what, until when), made with the token keys of the data directory: every
process that has them can check it, none has to remember it. Whoever serves /console asks `read_token`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.fernet import InvalidToken

from api.auth import load_keys
from api.compute.call import Call, Reply, reply
from api.compute.carry_out import must_be_legal
from api.compute.dispatch import Route
from api.compute.lookups import server_of
from api.compute.policy import enforce
from api.compute.schemas import consoles as schemas
from domain.errors import Invalid, NotFound

TTL_SECONDS = 600

# What this deployment can open, of what a client may ask for.
SUPPORTED = {"novnc": "vnc", "serial": "serial"}


class ConsoleGrant(msgspec.Struct, frozen=True):
    """What a console token says."""

    server_id: str
    host: str
    kind: str
    user_id: str
    expires_at: float


@dataclass(frozen=True)
class Console:
    protocol: str
    kind: str
    url: str
    token: str


def seal(data_dir: Path, grant: ConsoleGrant) -> str:
    return load_keys(data_dir).encrypt(msgspec.msgpack.encode(grant)).decode()


def read_token(data_dir: Path, token: str) -> ConsoleGrant | None:
    """What a token grants now; None for one that is not ours or has expired."""
    try:
        grant = msgspec.msgpack.decode(load_keys(data_dir).decrypt(token.encode()), type=ConsoleGrant)
    except (InvalidToken, msgspec.DecodeError, UnicodeEncodeError):
        return None
    return grant if grant.expires_at > time.time() else None


async def open_console(call: Call, server_id: str, protocol: str, kind: str) -> Console:
    """A fresh token and its address. Raises `Rejected` when the server has no console now."""
    server = await server_of(call, server_id, "os_compute_api:os-remote-consoles")
    must_be_legal(call, "remote-console", server)
    if SUPPORTED.get(kind) != protocol:
        raise Invalid(f"Unavailable console type {kind}.", hint=f"There is {' and '.join(sorted(SUPPORTED))}.")
    grant = ConsoleGrant(server.id, server.host or "", kind, call.caller.actor.user_id, time.time() + TTL_SECONDS)
    token = seal(call.services.settings.data_dir, grant)
    base = call.root.removesuffix("/compute")
    if kind == "serial":
        scheme = "wss" if base.startswith("https") else "ws"
        return Console(protocol, kind, f"{scheme}://{base.partition('://')[2]}/console/serial?token={token}", token)
    return Console(protocol, kind, f"{base}/console/vnc_auto.html?path=%3Ftoken%3D{token}", token)


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.CREATE.check(call.version, body)
    wanted = body["remote_console"]
    console = await open_console(call, call.params[0], wanted["protocol"], wanted["type"])
    return reply({"remote_console": {"protocol": console.protocol, "type": console.kind, "url": console.url}})


async def show(call: Call) -> Reply:
    enforce(call, "os_compute_api:os-console-auth-tokens")
    grant = read_token(call.services.settings.data_dir, call.params[0])
    if grant is None:
        raise NotFound("The console token is not valid or has expired.", hint="Ask for a new console.")
    shown = {"instance_uuid": grant.server_id, "host": grant.host, "port": 0, "internal_access_path": None}
    return reply({"console": shown})


ROUTES = [
    Route("POST", "/servers/{}/remote-consoles", create, since=6),
    Route("GET", "/os-console-auth-tokens/{}", show),
]
