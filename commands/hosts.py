"""Which hosts answer: heartbeats heard on this connection, and since when a silent one is silent.

Nothing of this is stored: a heartbeat is worth a few seconds. A host counts as up until `down_after` seconds have
passed in which it could have been heard and was not: since its last heartbeat, since this watch began, or since the
connection to NATS came back.
"""

from __future__ import annotations

import time
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from eventlog.log import EventLog


class HostWatch:
    def __init__(self, log: EventLog, down_after: float) -> None:
        self._log = log
        self.down_after = down_after
        self._heard: dict[str, float] = {}
        self._since = time.monotonic()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        async def heard(message: Msg) -> None:
            self._heard[message.subject.split(".", 1)[1]] = time.monotonic()

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

    def heard_once(self, host: str) -> bool:
        return host in self._heard

    def silent_for(self, host: str) -> float:
        """Seconds since the last heartbeat (or since the watch began)."""
        return time.monotonic() - self._heard.get(host, self._since)

    def _listen_anew(self) -> None:
        self._since = time.monotonic()

    def snapshot(self) -> dict[str, Any]:
        now = time.monotonic()
        return {host: round(now - at, 3) for host, at in self._heard.items()}
