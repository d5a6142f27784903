"""A guest's console, reached through the agent of its host (see `hypervisor_agent.consoles` for the subjects)."""

from __future__ import annotations

from typing import Literal

from nats.aio.client import Client
from nats.errors import Error as NatsError

from commands.handler import Commands

ConsoleKind = Literal["vnc", "serial"]
OPEN_SECONDS = 10.0
READ_SECONDS = 25.0  # the agent answers after 15, with nothing if there is nothing
WRITE_SECONDS = 15.0
CLOSE_SECONDS = 2.0
MAX_WRITE = 64 * 1024

DATA = b"="
AWAY = "The host of this server does not answer: open the console again in a moment."


class ConsoleEnded(Exception):
    """The console is closed, and why."""


class ConsoleLine:
    """One open console. Made by `open_line`; close it in the end."""

    def __init__(self, nc: Client, subject: str) -> None:
        self._nc = nc
        self._subject = subject

    async def read(self) -> bytes:
        """What the guest said; empty when it said nothing for a while. Raises `ConsoleEnded`."""
        return await self._ask("read", b"", READ_SECONDS)

    async def write(self, data: bytes) -> None:
        """Type into the guest. Raises `ConsoleEnded`."""
        for start in range(0, len(data), MAX_WRITE):
            await self._ask("write", data[start : start + MAX_WRITE], WRITE_SECONDS)

    async def close(self) -> None:
        """Let go of it; an agent that does not hear this closes it by itself."""
        try:
            await self._ask("close", b"", CLOSE_SECONDS)
        except ConsoleEnded:
            return

    async def _ask(self, what: str, data: bytes, seconds: float) -> bytes:
        try:
            answer = (await self._nc.request(f"{self._subject}.{what}", data, timeout=seconds)).data
        except (NatsError, OSError) as error:
            raise ConsoleEnded(AWAY) from error
        if not answer.startswith(DATA):
            raise ConsoleEnded(answer[1:].decode(errors="replace"))
        return answer[1:]


async def must_open(commands: Commands, server_id: str, kind: ConsoleKind) -> None:
    """Raise `Rejected` (by the reason codes of the drivers) when the server has no such console now."""
    await commands.ask_agent(server_id, "console_address", {"kind": kind}, timeout=OPEN_SECONDS)


async def open_line(
    commands: Commands, server_id: str, kind: ConsoleKind, token: str, since: float, until: float
) -> ConsoleLine:
    """Open a console with a token that opens nothing else, good between two Unix times. Raises `Rejected`."""
    server = await commands.load_server(server_id)
    params = {"kind": kind, "token": token, "since": since, "until": until}
    told = await commands.ask_agent(server_id, "console_open", params, timeout=OPEN_SECONDS)
    return ConsoleLine(commands.log.nc, f"agent.{server.host if server else ''}.console.{told['session']}")
