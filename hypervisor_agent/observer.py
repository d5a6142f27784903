"""What a hypervisor shows on its own: lifecycle events and a periodic look at all guests, as `observed` reports.

A power state is told once: when it differs from the one last told, by an order's outcome or an observation. While an
order is being carried out for a server nothing is told about it, for the order's outcome will. A guest that should be
there and is not is told as `nostate`. The periodic look finds what an event missed, and everything that changed while
no agent ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import structlog

from domain.orders import PowerStateName, Report
from hypervisor_agent.driver import Driver, LifecycleEvent, OrderFailed
from hypervisor_agent.journal import HostJournal, JournalFailed, Unsent
from hypervisor_agent.reporter import Reporter

log = structlog.get_logger("agent")
_encode = msgspec.json.Encoder().encode


class Observer:
    """Watches one host's guests. `busy` says whether an order is being carried out for a server."""

    def __init__(
        self, host: str, driver: Driver, journal: HostJournal, reporter: Reporter, busy: Callable[[str], bool]
    ) -> None:
        self._host = host
        self._driver = driver
        self._journal = journal
        self._reporter = reporter
        self._busy = busy
        self._running: set[asyncio.Task[None]] = set()
        self._looking = asyncio.Lock()

    def start(self) -> None:
        self._driver.on_lifecycle(self._on_event)

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def reconcile(self) -> list[dict[str, Any]]:
        """Compare the hypervisor with what was told, tell the differences, answer with every guest seen."""
        async with self._looking:
            before = {server_id: entry.order_id for server_id, entry in self._journal.expected().items()}
            seen = {guest.server_id: guest for guest in await self._driver.guests()}
            for guest in seen.values():
                if self._journal.entry(guest.server_id) is None and guest.generation == 0:
                    continue  # not ours: somebody else's guest on the same hypervisor
                await self._tell(guest.server_id, guest.power_state, guest.generation, "seen by reconciliation")
            for server_id, order_id in before.items():
                entry = self._journal.entry(server_id)
                # An order that ended while we looked knows better than our picture from before.
                if server_id not in seen and entry is not None and entry.order_id == order_id:
                    await self._tell(server_id, "nostate", entry.generation, "the hypervisor does not have this guest")
            return [
                {"server_id": g.server_id, "power_state": g.power_state, "generation": g.generation}
                for g in seen.values()
            ]

    async def look(self) -> None:
        """One periodic reconciliation; a hypervisor that does not answer is tried again next time."""
        try:
            await self.reconcile()
        except (OrderFailed, JournalFailed) as error:
            log.warning("the hypervisor could not be compared with the orders", host=self._host, error=str(error))

    def _on_event(self, event: LifecycleEvent) -> None:
        if self._busy(event.server_id) or self._journal.entry(event.server_id) is None:
            return
        task = asyncio.ensure_future(self._event(event))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _event(self, event: LifecycleEvent) -> None:
        entry = self._journal.entry(event.server_id)
        try:
            await self._tell(event.server_id, event.power_state, entry.generation if entry else 0, event.reason)
        except JournalFailed as error:
            log.error("an observation was not kept", host=self._host, server_id=event.server_id, error=str(error))

    async def _tell(self, server_id: str, power_state: PowerStateName, generation: int, reason: str) -> None:
        known = self._journal.entry(server_id)
        if self._busy(server_id) or (known is not None and known.power_state == power_state):
            return
        report = Report(
            id=uuid4().hex,
            host=self._host,
            server_id=server_id,
            outcome="observed",
            generation=max(generation, known.generation if known else 0),
            power_state=power_state,
            reason=reason,
            occurred_at=datetime.now(UTC),
        )
        unsent = Unsent(f"{server_id}:observed", report.id, _encode(report))
        await self._journal.observed(server_id, power_state, report.generation, unsent)
        self._reporter.send(self._journal, unsent)
        log.info("observed", host=self._host, server_id=server_id, power_state=report.power_state, reason=reason)
