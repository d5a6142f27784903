"""An agent process's connection to NATS: made and mended for as long as it takes, shared by all hosts it serves.

The connection's inboxes start with `_INBOX.<name>`, the only inboxes that the agent's NATS user may read. While NATS is
away `request` raises at once; what has to arrive is sent again by `reporter`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from eventlog.mux import RequestMux, let_go

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 5.0
REQUEST_SECONDS = 5.0
FLUSHER_QUEUE = 8192

log = structlog.get_logger("agent")


@dataclass(frozen=True)
class NatsAccess:
    """Where NATS is and who the agent is there. `name` is the user's name and the part of its inboxes' subject."""

    servers: list[str]
    name: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class Link:
    """One connection with its requests. `open` returns when NATS answered once; afterwards it reconnects by itself."""

    def __init__(self, access: NatsAccess) -> None:
        self.access = access
        self.client = Client()
        self._mux: RequestMux | None = None
        self._on_connect: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Connect, however long NATS is away. Raises nothing but cancellation: it is the caller who sets a limit."""
        pause = RETRY_SECONDS
        try:
            while not await self._connect():
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_RETRY_SECONDS)
        except asyncio.CancelledError:  # told to stop in the middle of it
            await self.close()
            raise

    async def close(self) -> None:
        """Raises nothing: a connection that NATS has just left can not be flushed, and need not be."""
        with contextlib.suppress(OSError, nats.errors.Error):
            if self._mux is not None:
                await self._mux.close()
        await let_go(self.client)

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call back after every reconnect: what the server was asked to do for us is forgotten by then."""
        self._on_connect.append(callback)

    async def request(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> Msg:
        """One answer. Raises LogUnavailable if nothing was sent, eventlog.mux.NoAnswer if it may have been."""
        assert self._mux is not None, "open the link first"
        return await self._mux.request(subject, payload, headers)

    async def subscribe(self, subject: str, handler: Callable[[Msg], Awaitable[None]]) -> Subscription:
        return await self.client.subscribe(subject, cb=handler)

    async def drain(self, subscription: Subscription) -> None:
        """End a subscription once everything that NATS sent for it is handled. Raises OSError, nats.errors.Error.

        nats-py's own `drain` lets go of it after one PONG, but its PING goes out in front of the UNSUB: what NATS sends
        between the two is dropped. By that PONG the UNSUB has gone out as well, so a second round trip comes after it.
        Only nats-py itself can send the UNSUB of a subscription that is kept: hence its range in pyproject.toml.
        """
        await self.client._send_unsubscribe(subscription._id)
        await self.client.flush()
        await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py gives no types

    async def send(self, subject: str, payload: bytes = b"", reply: str = "") -> bool:
        """Send a message that may be lost. False if it was not even sent."""
        if not self.client.is_connected:
            return False
        try:
            await self.client.publish(subject, payload, reply)
        except (nats.errors.Error, OSError):
            return False
        return True

    @property
    def clustered(self) -> bool:
        """Whether NATS is more than one server: then one may go, with what it was asked, and this connection stays."""
        return len(self.client.servers) > 1

    def inbox(self) -> str:
        return self.client.new_inbox()

    async def _connect(self) -> bool:
        self.client = Client()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.client.connect(
                    self.access.servers,
                    user=self.access.user,
                    password=self.access.password,
                    name=f"chronova agent {self.access.name}",
                    inbox_prefix=f"_INBOX.{self.access.name}".encode(),
                    connect_timeout=2,
                    reconnect_time_wait=1,
                    max_reconnect_attempts=-1,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    flusher_queue_size=FLUSHER_QUEUE,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnect,
                    reconnected_cb=self._on_reconnect,
                )
                self._mux = RequestMux(self.client, REQUEST_SECONDS)
                await self._mux.open()
        except (TimeoutError, OSError, nats.errors.Error) as error:
            log.warning("NATS does not answer; trying again", servers=self.access.servers, error=repr(error))
            await self.close()
            return False
        return True

    async def _on_error(self, error: Exception) -> None:
        log.warning("NATS reports a problem", error=repr(error))

    async def _on_disconnect(self) -> None:
        if self._mux is not None:
            self._mux.disconnected()

    async def _on_reconnect(self) -> None:
        for callback in self._on_connect:
            callback()
