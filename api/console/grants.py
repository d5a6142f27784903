"""Console tokens: each opens one console of one server, once, for a while.

A token is a sealed note (who may look at what, until when), made with the token keys of the data directory: every
process that has them can check it, none has to remember it. That it opens no second console is kept by the one that
opens it, the agent of the server's host. A token is a secret: it is never logged.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from cryptography.fernet import InvalidToken

from api.auth import load_keys
from commands.consoles import ConsoleKind, must_open
from domain.errors import Conflict, Invalid, Rejected
from domain.resources import Host

if TYPE_CHECKING:
    from api.services import Services
    from domain.server import Server

TTL_SECONDS = 600

# What this deployment can open, of what a client may ask for: Nova's type to the console's protocol.
SUPPORTED: dict[str, ConsoleKind] = {"novnc": "vnc", "serial": "serial"}
OFF = "wrong_power_state"
NO_CONSOLE = "unsupported"


class ConsoleGrant(msgspec.Struct, frozen=True):
    """What a console token says. `expires_at` is Unix time."""

    server_id: str
    host: str
    kind: str
    user_id: str
    expires_at: float

    @property
    def protocol(self) -> ConsoleKind:
        return SUPPORTED[self.kind]

    @property
    def issued_at(self) -> float:
        return self.expires_at - TTL_SECONDS

    @property
    def expired(self) -> bool:
        return self.expires_at <= time.time()


@dataclass(frozen=True)
class Console:
    """A fresh token and where it is good."""

    kind: str
    token: str

    def page(self, base: str = "") -> str:
        """The address of the page that shows it. noVNC's is shaped like Nova's, whose clients take it apart."""
        token = quote(self.token)
        if self.kind == "serial":
            return f"{base}/console/serial?token={token}"
        return f"{base}/console/vnc_auto.html?path=%3Ftoken%3D{token}"

    def address(self, base: str) -> str:
        """What the compute API answers: of a serial console, as Nova, the WebSocket (its page is the same in http)."""
        if self.kind != "serial":
            return self.page(base)
        return self.page("ws" + base.removeprefix("http"))


async def has_consoles(services: Services, server: Server) -> bool:
    """Whether the server's guest is on, on a host whose hypervisor has consoles."""
    if server.host is None or server.power_state not in ("running", "paused"):
        return False
    return await _driver(services, server.host) == "libvirt"


async def _driver(services: Services, name: str) -> str | None:
    host = await services.read.resource_by_name("host", name)
    return host.driver if isinstance(host, Host) else None


async def grant(services: Services, server: Server, kind: str, user_id: str) -> Console:
    """A token for a console that could be opened now. Raises `Rejected` when it could not.

    A simulated host grants them, too, as Nova's fake driver does: there the page says that there is no console.
    """
    try:
        await must_open(services.commands, server.id, SUPPORTED[kind])
    except Rejected as refusal:
        if refusal.reason == OFF:
            hint = "A guest that is off has no console: start the server first."
            raise Conflict("Instance not yet ready", hint=hint, reason=OFF) from refusal
        if refusal.reason != NO_CONSOLE:
            raise
        if await _driver(services, server.host or "") != "simulated":
            said = f"Unavailable console type {kind}."
            raise Invalid(said, hint="The host's hypervisor has no consoles.", reason=NO_CONSOLE) from refusal
    note = ConsoleGrant(server.id, server.host or "", kind, user_id, time.time() + TTL_SECONDS)
    return Console(kind, seal(services.settings.data_dir, note))


def seal(data_dir: Path, note: ConsoleGrant) -> str:
    return load_keys(data_dir).encrypt(msgspec.msgpack.encode(note)).decode()


def unseal(data_dir: Path, token: str) -> ConsoleGrant | None:
    """What a token grants or granted; None for one that is not ours."""
    try:
        note = msgspec.msgpack.decode(load_keys(data_dir).decrypt(token.encode()), type=ConsoleGrant)
    except (InvalidToken, msgspec.DecodeError, UnicodeEncodeError):
        return None
    return note if note.kind in SUPPORTED else None


def read_token(data_dir: Path, token: str) -> ConsoleGrant | None:
    """What a token grants now; None for one that is not ours or has expired."""
    note = unseal(data_dir, token)
    return None if note is None or note.expired else note


def name_of(token: str) -> str:
    """What the agent remembers of a token that was used."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]
