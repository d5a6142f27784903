"""Orders on their way to the stream that their hosts take them from.

A host's orders go out one message at a time: what becomes due while its last one is on its way goes together, as a
list on the subject of its first server. So a lone order waits for nothing, and under load many share a message, its
forced write and its acknowledgement. A message that the stream does not confirm is sent again until the deadline of
each order in it: the agent knows an order that comes twice by its generation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import structlog

from commands.lease import LeaseLost
from domain.orders import Order
from eventlog.log import EventLog

log_ = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode

RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0)
# The most of one message, which the stream takes up to 256 KiB.
MOST_TOGETHER = 64
MOST_BYTES = 32 << 10


class _Parcel:
    __slots__ = ("body", "deadline", "done", "server_id")

    def __init__(self, order: Order, deadline: datetime) -> None:
        self.server_id = order.server_id
        self.body = _encode(order)
        self.deadline = deadline
        self.done: asyncio.Future[None] | None = None


class OrderPost:
    """One per conductor. `fence` is asked before every message."""

    def __init__(self, log: EventLog, fence: Callable[[], Awaitable[None]]) -> None:
        self._log = log
        self._fence = fence
        self._waiting: dict[str, deque[_Parcel]] = {}  # host -> orders; of a host whose messages are being sent
        self._senders: set[asyncio.Task[None]] = set()

    def put(self, order: Order, deadline: datetime) -> None:
        """Send an order as soon as its host's turn comes, until the deadline."""
        self._add(order.host, _Parcel(order, deadline))

    async def send(self, order: Order, deadline: datetime) -> None:
        """The same, and wait for it. Raises LeaseLost; returns too when the deadline is over."""
        parcel = _Parcel(order, deadline)
        parcel.done = asyncio.get_running_loop().create_future()
        self._add(order.host, parcel)
        await parcel.done

    async def stop(self) -> None:
        """Send no more: the log tells the next conductor which orders are out."""
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)

    def _add(self, host: str, parcel: _Parcel) -> None:
        waiting = self._waiting.get(host)
        if waiting is not None:
            waiting.append(parcel)
            return
        self._waiting[host] = deque((parcel,))
        sender = asyncio.create_task(self._send_all(host))
        self._senders.add(sender)
        sender.add_done_callback(self._senders.discard)

    async def _send_all(self, host: str) -> None:
        """Send one message of a host after another until nothing waits."""
        waiting, failures = self._waiting[host], 0
        try:
            while waiting:
                # Should one of them be the reason of a failure, it must not hold up the others.
                bundle = _bundle(waiting, 1 if failures else MOST_TOGETHER)
                try:
                    await self._fence()
                    await self._store(host, bundle)
                except LeaseLost as lost:
                    self._drop([*bundle, *waiting], lost)
                    return
                except Exception as error:  # the boundary to NATS: whatever is away comes back, or the deadline comes
                    waiting.extend(_in_time(bundle, error))
                    await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                    failures += 1
                    continue
                failures = 0
                for parcel in bundle:
                    _settle(parcel)
        finally:
            del self._waiting[host]

    async def _store(self, host: str, bundle: list[_Parcel]) -> None:
        body = bundle[0].body if len(bundle) == 1 else b"[" + b",".join(parcel.body for parcel in bundle) + b"]"
        await self._log.put_beside(f"orders.{host}.{bundle[0].server_id}", body)

    def _drop(self, parcels: list[_Parcel], lost: LeaseLost) -> None:
        log_.info("orders dropped", orders=len(parcels), reason=str(lost))
        for parcel in parcels:
            if parcel.done is not None and not parcel.done.done():
                parcel.done.set_exception(lost)


def _bundle(waiting: deque[_Parcel], most: int) -> list[_Parcel]:
    """What the next message holds: at least one order."""
    bundle, size = [waiting.popleft()], 0
    size = len(bundle[0].body)
    while waiting and len(bundle) < most and size + len(waiting[0].body) <= MOST_BYTES:
        size += len(waiting[0].body)
        bundle.append(waiting.popleft())
    return bundle


def _in_time(bundle: list[_Parcel], error: Exception) -> list[_Parcel]:
    """Those that may be tried again; the others are given up: their deadline ends the action."""
    now = datetime.now(UTC)
    for parcel in bundle:
        if now > parcel.deadline:
            log_.error("order not published", server_id=parcel.server_id, error=repr(error))
            _settle(parcel)
        else:
            log_.warning("order not published yet", server_id=parcel.server_id, error=repr(error))
    return [parcel for parcel in bundle if now <= parcel.deadline]


def _settle(parcel: _Parcel) -> None:
    if parcel.done is not None and not parcel.done.done():
        parcel.done.set_result(None)
