"""Which hosts answer: heartbeats heard on this connection, and since when a silent one is silent.

Nothing of this is stored: a heartbeat is worth a few seconds. A host counts as up until `down_after` seconds have
passed in which it could have been heard and was not: since its last heartbeat, since this watch began, or since the
connection to NATS came back.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from msgspec.json import decode
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from domain.orders import Heartbeat
from eventlog.log import EventLog


class HostWatch:
    def __init__(self, log: EventLog, down_after: float) -> None:
        self._log = log
        self.down_after = down_after
        self._heard: OrderedDict[str, float] = OrderedDict()  # the longest ago first; 0: expected, and not heard yet
        self._since = time.monotonic()
        self._subscription: Subscription | None = None
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

    async def stop(self) -> None:
        if self._subscription is not None:
            await self._subscription.unsubscribe()
            self._subscription = None

    def is_up(self, host: str | None) -> bool:
        if host is None:
            return False
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

    def _listen_anew(self) -> None:
        self._since = time.monotonic()

    def snapshot(self) -> dict[str, Any]:
        now = time.monotonic()
        return {host: round(now - at, 3) for host, at in self._heard.items() if at}
