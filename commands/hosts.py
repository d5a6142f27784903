"""What commands may count on: which hosts are up, by heartbeats and by what the log says of them, and what they can do.

A heartbeat is worth a few seconds, so it is not stored. A host answers until `down_after` seconds have passed in which
it could have been heard and was not: since its last heartbeat, since this watch began, or since the connection to NATS
came back. One that an operator forced down is down, whatever it answers.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import aclosing
from itertools import takewhile
from typing import Any, get_args

from msgspec.json import Decoder, decode
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from domain.orders import Heartbeat, OrderKind
from domain.resources import Host
from eventlog.envelope import Recorded
from eventlog.follower import Follower
from eventlog.log import EventLog

ORDERS = frozenset(get_args(OrderKind))
_decode_host = Decoder(Host).decode


class HostWatch:
    def __init__(self, log: EventLog, down_after: float) -> None:
        self._log = log
        self.down_after = down_after
        self._heard: OrderedDict[str, float] = OrderedDict()  # the longest ago first; 0: expected, and not heard yet
        self._since = time.monotonic()
        self._subscription: Subscription | None = None
        self._hosts: dict[str, Host] = {}  # by name, as the log has them
        self._follower: Follower | None = None
        self.troubles: dict[str, str] = {}  # of hosts that are heard and can take no orders: why

    async def start(self) -> None:
        async def heard(message: Msg) -> None:
            host = message.subject.split(".", 1)[1]
            self._heard[host] = time.monotonic()
            self._heard.move_to_end(host)
            if b'"trouble"' in message.data:
                self.troubles[host] = decode(message.data, type=Heartbeat).trouble
            else:
                self.troubles.pop(host, None)

        self._listen_anew()
        self._log.on_reconnect(self._listen_anew)
        self._subscription = await self._log.nc.subscribe("heartbeat.*", cb=heard)
        self._follower = await self._log.follow(await self._look(), self._changed, kind="host")

    @property
    def failed(self) -> asyncio.Future[None]:
        """Done when the hosts of the log can not be followed any more, with the error."""
        assert self._follower is not None, "start the watch first"
        return self._follower.failed

    async def stop(self) -> None:
        if self._follower is not None:
            await self._follower.stop()
        if self._subscription is not None:
            await self._subscription.unsubscribe()
            self._subscription = None

    def is_up(self, host: str | None) -> bool:
        """Whether commands may count on the host."""
        if host is None:
            return False
        known = self._hosts.get(host)
        return not (known is not None and known.forced_down) and self.answers(host)

    def lacks(self, host: str | None) -> frozenset[str]:
        """The orders that it can not carry out, as far as its agent told what it can."""
        known = None if host is None else self._hosts.get(host)
        return ORDERS.difference(known.capabilities) if known is not None and known.capabilities else frozenset()

    def answers(self, host: str) -> bool:
        """Whether it is heard."""
        return time.monotonic() - max(self._heard.get(host, 0.0), self._since) < self.down_after

    def expect(self, host: str) -> None:
        """A host that `silent` is to name though it was never heard."""
        if host not in self._heard:
            self._heard[host] = 0.0
            self._heard.move_to_end(host, last=False)

    def silent(self) -> Iterator[str]:
        """The hosts that are not up, of all that were heard or are expected. Costs nothing for those that are."""
        latest = time.monotonic() - self.down_after
        if self._since > latest:
            return iter(())
        return (host for host, _ in takewhile(lambda one: one[1] <= latest, self._heard.items()))

    def heard_once(self, host: str) -> bool:
        return bool(self._heard.get(host))

    def silent_for(self, host: str) -> float:
        """Seconds since the last heartbeat (or since the watch began)."""
        return time.monotonic() - (self._heard.get(host) or self._since)

    async def _look(self) -> int:
        """Take in every host's newest commit; the position up to which that is so."""
        position = 0
        async with aclosing(self._log.scan_last("host")) as newest:
            async for recorded in newest:
                await self._changed([recorded])
                position = recorded.position
        return position

    async def _changed(self, commits: list[Recorded]) -> None:
        for recorded in commits:
            host = _decode_host(recorded.commit.state)
            if host.deleted:
                self._hosts.pop(host.name, None)
            else:
                self._hosts[host.name] = host

    def _listen_anew(self) -> None:
        self._since = time.monotonic()

    def snapshot(self) -> dict[str, Any]:
        now = time.monotonic()
        return {host: round(now - at, 3) for host, at in self._heard.items() if at}
