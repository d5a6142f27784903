"""Filter orders of one host: the newest counts, one at a time, beside the orders of its servers.

Acknowledged when the driver has applied it; one that fails comes again. No report is sent: a filter is no part of any
server's action, and the next order says all of it once more.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from domain.filters import KIND, HostFilters
from hypervisor_agent.consumer import Delivery
from hypervisor_agent.driver import Driver, OrderFailed, Unsupported

AGAIN_SECONDS = 2.0

log = structlog.get_logger("agent")
_decode = msgspec.json.Decoder(HostFilters).decode


class _Kind(msgspec.Struct):
    kind: str = ""


_kind = msgspec.json.Decoder(_Kind).decode


def is_filter_order(data: bytes) -> bool:
    """Raises `msgspec.DecodeError` for what is no order at all."""
    return _kind(data).kind == KIND


class FilterOrders:
    """See the module."""

    def __init__(self, host: str, driver: Driver) -> None:
        self._host = host
        self._driver = driver
        self._waiting: tuple[HostFilters, Delivery] | None = None
        self._task: asyncio.Task[None] | None = None
        self._acknowledging: set[asyncio.Task[None]] = set()

    def take(self, delivery: Delivery) -> None:
        """Raises `msgspec.DecodeError`."""
        filters = _decode(delivery.data)
        if self._waiting is not None:
            known, older = self._waiting
            if known.position > filters.position:
                delivery, older, filters = older, delivery, known
            self._acknowledge(older)
        self._waiting = filters, delivery
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """What is not done comes again, to the next process."""
        tasks = [*self._acknowledging, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self) -> None:
        while self._waiting is not None:
            (filters, delivery), self._waiting = self._waiting, None
            try:
                await self._driver.filter_ports(filters)
            except Unsupported as error:
                log.warning("ports are not filtered on this host", host=self._host, reason=error.fault.message)
            except (OrderFailed, OSError) as error:
                log.error("the port filters could not be applied", host=self._host, error=str(error))
                await delivery.again(AGAIN_SECONDS)
                continue
            await delivery.ack()

    def _acknowledge(self, delivery: Delivery) -> None:
        task = asyncio.ensure_future(delivery.ack())
        self._acknowledging.add(task)
        task.add_done_callback(self._acknowledging.discard)
