"""Consoles of a host's guests, carried to whoever may see them over the agent's own NATS connection.

A session is one open connection to a guest's screen or serial port, on this machine. It is made by the question
`console_open` and has a name that nobody can guess; from then on it is three subjects, each a request with an answer:

- `agent.<host>.console.<session>.read`: `=` and what the guest said (nothing, if it said nothing for `HOLD_SECONDS`),
  or `!` and why the session has ended;
- `agent.<host>.console.<session>.write`: the payload is typed into the guest; the answer is `=`, or `!` and why not;
- `agent.<host>.console.<session>.close`.

So no port is opened, no address has to be reachable but that of NATS, and a reader that does not read slows the guest's
console down instead of filling this process. A token opens one session, ever: those that were used are remembered, and
those that were given out before this process began are refused. A serial port has one reader: a newer session takes
it over. A session that nobody reads for `IDLE_SECONDS` is closed, and at most `MAX_SESSIONS` are open.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog
from nats.aio.msg import Msg

from hypervisor_agent.driver import ConsoleKind, Driver, OrderFailed
from hypervisor_agent.link import Link

HOLD_SECONDS = 15.0
IDLE_SECONDS = 60.0
CONNECT_SECONDS = 5.0
WRITE_SECONDS = 10.0
MAX_SESSIONS = 64
MAX_TOKENS = 10_000
CHUNK = 128 * 1024
SCROLLED_LINES = 24  # of what a serial port said before, so that a page does not open on nothing

DATA, ENDED = b"=", b"!"
GONE = "The console is closed: open a new one."
TAKEN = "The console was opened elsewhere, and a serial port has one reader."
GUEST_CLOSED = "The guest closed the console: it was switched off, or moved to another host."

log = structlog.get_logger("agent")


class _Session:
    """One connection to a guest's console. `why` says why it has ended; empty while it is open."""

    def __init__(self, guest: tuple[str, ConsoleKind], reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.guest = guest
        self.why = ""
        self.read_at = time.monotonic()
        self.said_before = b""
        self._reader = reader
        self._writer = writer
        self._reading = asyncio.Lock()

    async def read(self) -> bytes:
        self.read_at = time.monotonic()
        async with self._reading:
            if self.said_before:
                said, self.said_before = self.said_before, b""
                return DATA + said
            try:
                async with asyncio.timeout(HOLD_SECONDS):
                    data = await self._reader.read(CHUNK)
            except TimeoutError:
                return DATA
            except OSError:
                data = b""
        if not data and not self.why:
            self.close(GUEST_CLOSED)
        return DATA + data if data else ENDED + self.why.encode()

    async def write(self, data: bytes) -> bytes:
        if self.why:
            return ENDED + self.why.encode()
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                self._writer.write(data)
                await self._writer.drain()
        except (OSError, TimeoutError):
            return ENDED + b"The guest takes no input now."
        return DATA

    def close(self, why: str) -> None:
        self.why = self.why or why
        self._writer.close()


class Consoles:
    """The open console sessions of one host."""

    def __init__(self, host: str, driver: Driver, link: Link) -> None:
        self._subject = f"agent.{host}.console"
        self._driver = driver
        self._link = link
        self._sessions: dict[str, _Session] = {}
        self._tokens: dict[str, float] = {}
        self._began_at = time.time()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._link.subscribe(f"{self._subject}.*.*", self._asked)
        self._spawn(self._close_idle())

    async def stop(self) -> None:
        for session in self._sessions.values():
            session.close("The host's agent is restarting: open the console again in a moment.")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def open(self, server_id: str, kind: ConsoleKind, token: str, since: float, until: float) -> dict[str, str]:
        """Make a session; its name. `token` is good from `since` until `until` (Unix times) and opens nothing again.

        Raises `OrderFailed`: no guest, off, no such console, a token used before, too many sessions.
        """
        now = time.time()
        self._tokens = {one: end for one, end in self._tokens.items() if end > now}
        if since < self._began_at:
            raise OrderFailed("token_used", "The agent of this host has started anew since: ask for a new console.")
        if token in self._tokens:
            raise OrderFailed("token_used", "This console token was used already: ask for a new console.")
        if len(self._sessions) >= MAX_SESSIONS or len(self._tokens) >= MAX_TOKENS:
            raise OrderFailed("busy", f"{len(self._sessions)} consoles are open on this host: close one.")
        self._tokens[token] = until  # before anything is waited for: a second question with it may be here already
        try:
            address = await self._driver.console_address(server_id, kind)
        except BaseException:
            del self._tokens[token]  # it opened nothing
            raise
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if kind == "serial":
                    self._take_over((server_id, kind))
                if address[0] == "unix":
                    reader, writer = await asyncio.open_unix_connection(address[1])
                else:
                    reader, writer = await asyncio.open_connection(address[1], address[2])
        except (OSError, TimeoutError) as error:
            raise OrderFailed("console_closed", "The guest's console does not answer. Is the guest on?") from error
        session = _Session((server_id, kind), reader, writer)
        if kind == "serial":
            with suppress(OrderFailed):
                said = await self._driver.console_output(server_id, SCROLLED_LINES)
                session.said_before = said.rstrip("\n").replace("\r\n", "\n").replace("\n", "\r\n").encode()
        name = secrets.token_hex(16)
        self._sessions[name] = session
        return {"session": name}

    def _take_over(self, guest: tuple[str, ConsoleKind]) -> None:
        for session in self._sessions.values():
            if session.guest == guest:
                session.close(TAKEN)

    async def _asked(self, message: Msg) -> None:
        name, what = message.subject.split(".")[-2:]
        session = self._sessions.get(name)
        if session is None:
            await self._link.send(message.reply, ENDED + GONE.encode())
        elif what == "read":
            self._spawn(self._answer(message, session.read))
        elif what == "write":
            # Whoever writes waits for the answer before writing again, so the order of what is typed is kept.
            self._spawn(self._answer(message, lambda: session.write(message.data)))
        else:
            session.close(GONE)
            self._sessions.pop(name, None)
            await self._link.send(message.reply, DATA)

    async def _answer(self, message: Msg, make: Callable[[], Awaitable[bytes]]) -> None:
        await self._link.send(message.reply, await make())

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS / 4)
            late = time.monotonic() - IDLE_SECONDS
            for name, session in list(self._sessions.items()):
                if session.read_at < late:
                    session.close(GONE)
                    del self._sessions[name]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
