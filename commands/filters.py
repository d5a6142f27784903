"""Filter orders: what the log says of ports and security groups, for every host that filters.

Derived, like every order: a starting conductor reads the newest state of all ports and groups and sends each host what
follows, then follows the log. Changes that come together are one order; a host whose filters stay the same gets none.
Nothing is read or kept while no host filters. The order of a host has to fit a message of its stream (256 KiB: some
thousand ports with their groups); one that does not is logged, and the host keeps the filters it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import cast

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from domain.errors import Unavailable
from domain.filters import KIND, Groups, HostFilters, filters_of
from domain.resources import Host, Port, Resource, SecurityGroup, decode
from domain.server import Server
from eventlog.envelope import Recorded
from eventlog.errors import LogError
from eventlog.log import EventLog

KINDS = ("security_group", "port")
GATHER_SECONDS = 0.05
RETRY_SECONDS = 1.0
PUBLISH_SECONDS = 2.0
MAX_BYTES = (1 << 18) - 1024  # the stream counts headers too
AWAY = (Unavailable, LogError, NatsError, JetStreamError)

log_ = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class FilterBook:
    """One per conductor."""

    def __init__(self, log: EventLog, assure: Callable[[], Awaitable[None]]) -> None:
        self._log = log
        self._assure = assure
        self._position = 0
        self._hosts: set[str] = set()
        self._where: dict[str, str | None] = {}  # server id -> host
        self._known: dict[str, dict[str, Resource]] = {kind: {} for kind in KINDS}
        self._sent: dict[str, HostFilters] = {}
        self._needed = asyncio.Event()  # a host filters
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Send what there is to send, from now on: hosts and servers have to be known. Ends only by raising."""
        self._task = asyncio.create_task(self._serve(), name="filters")
        return self._task

    def apply_host(self, host: Host) -> None:
        """A host that the log knows: from now on it is sent its filters, if it filters."""
        if KIND not in host.capabilities or host.deleted:
            self._hosts.discard(host.name)
        elif host.name not in self._hosts:
            self._hosts.add(host.name)
            self._sent.pop(host.name, None)
            self._changed.set()
            self._needed.set()

    def apply_server(self, server: Server) -> None:
        if server.deleted:
            self._where.pop(server.id, None)
        elif self._where.get(server.id, "") != server.host:
            self._where[server.id] = server.host
            self._changed.set()

    def apply(self, batch: Iterable[Recorded]) -> None:
        """What was appended, in order."""
        for one in batch:
            self._position = max(self._position, one.position)
            if self._needed.is_set() and one.commit.kind in KINDS:
                self._keep(one)

    async def greet(self, host: str, capabilities: Iterable[str]) -> None:
        """Before a host can get its first guest: no port may pass anything until the filters come.

        An agent that has filters keeps them and takes whatever comes next for newer: a host that appears again is sent
        its filters anew.
        """
        if KIND in capabilities:
            await self._publish(HostFilters(host, 0))
            if self._sent.pop(host, None) is not None:
                self._changed.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _keep(self, recorded: Recorded) -> None:
        state = decode(recorded.commit.kind, recorded.commit.state)
        known = self._known[recorded.commit.kind]
        before = known.get(state.id)
        if before is None or before.version < state.version:
            known[state.id] = state
            self._changed.set()

    async def _serve(self) -> None:
        """The boundary of this work: whatever is away is tried again, for filters are never given up.

        Raises LeaseLost when they are another conductor's.
        """
        await self._needed.wait()
        while True:
            try:
                await self._read_all()
                break
            except AWAY as error:
                log_.warning("ports and security groups could not be read yet", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)
        while True:
            await self._changed.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._changed.clear()
            try:
                await self._send()
            except AWAY as error:
                log_.warning("port filters not sent yet", error=repr(error))
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _read_all(self) -> None:
        self._position = max(self._position, await self._log.last_position())
        for kind in KINDS:
            async for one in self._log.scan_last(kind):
                self._keep(one)

    async def _send(self) -> None:
        for kind, known in self._known.items():
            self._known[kind] = {id: one for id, one in known.items() if not one.deleted}
        ports = [cast(Port, one) for one in self._known["port"].values()]
        groups = Groups(cast(SecurityGroup, one) for one in self._known["security_group"].values())
        for filters in filters_of(self._hosts, self._position, ports, groups, self._where):
            before = self._sent.get(filters.host)
            if before is None or msgspec.structs.replace(before, position=filters.position) != filters:
                await self._publish(filters)
                self._sent[filters.host] = filters

    async def _publish(self, filters: HostFilters) -> None:
        body = _encode(filters)
        if len(body) > MAX_BYTES:
            log_.error("too many port filters for one order", host=filters.host, bytes=len(body), most=MAX_BYTES)
            return
        await self._assure()
        await self._log.js.publish(f"orders.{filters.host}.{KIND}", body, timeout=PUBLISH_SECONDS)
