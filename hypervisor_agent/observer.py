"""What a hypervisor shows on its own: lifecycle events and a periodic look at all guests, as `observed` reports.

A power state is told once: when it differs from the one last told, by an order's outcome or an observation. While an
order is being carried out for a server nothing is told about it, for the order's outcome will. A guest that should be
there and is not is told as `nostate`. The periodic look finds what an event missed, and everything that changed while
no agent ran. A device that a guest let go of late is told at one look after another, ever more seldom, until an order
ends that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import structlog

from domain.orders import LET_GO, PowerStateName, Report
from hypervisor_agent.driver import LET_GO_LATE, Driver, LifecycleEvent, OrderFailed
from hypervisor_agent.journal import HostJournal, JournalFailed, Unsent
from hypervisor_agent.reporter import Reporter

MOST_LOOKS = 64  # between two times that the same is told

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
        self._let_go: dict[str, int] = {}  # server -> how often it was seen without what it let go of

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
                if guest.let_go:
                    await self._tell_let_go(
                        guest.server_id, guest.power_state, guest.let_go, before.get(guest.server_id)
                    )
            self._let_go = {one: looks for one, looks in self._let_go.items() if one in seen and seen[one].let_go}
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
            if event.let_go:
                order_id = entry.order_id if entry else None
                await self._tell_let_go(event.server_id, event.power_state, event.let_go, order_id)
                return
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

    async def _tell_let_go(
        self, server_id: str, power_state: PowerStateName, devices: tuple[str, ...], order_id: str | None
    ) -> None:
        """Tell it, unless an order came after the one that was the last when it was seen."""
        known = self._journal.entry(server_id)
        if known is None or known.order_id != order_id or self._busy(server_id):
            return
        looks = self._let_go[server_id] = self._let_go.get(server_id, 0) + 1
        if looks & (looks - 1) and looks % MOST_LOOKS:
            return  # told at the first, second, fourth, ... look: what cannot be finished now must not fill the log
        report = Report(
            id=uuid4().hex,
            host=self._host,
            server_id=server_id,
            outcome="observed",
            generation=known.generation,
            power_state=power_state,
            details={LET_GO: devices},
            reason=LET_GO_LATE,
            occurred_at=datetime.now(UTC),
        )
        unsent = Unsent(f"{server_id}:let_go", report.id, _encode(report))
        await self._journal.keep(unsent)
        self._reporter.send(self._journal, unsent)
        log.info("observed", host=self._host, server_id=server_id, let_go=devices, reason=LET_GO_LATE)
