"""One hypervisor host's agent: takes orders, has the driver carry them out, tells what came of them.

For every server strictly one order at a time; different servers side by side, up to a limit. The newest generation
wins: an older order is acknowledged and ignored, a newer one cancels the one being carried out, waits for its end, and
then runs. An order that comes again is answered by the stored report, not done again.

The way of an order: journal `started` -> driver -> journal outcome and report, in one transaction -> report
acknowledged by JetStream -> order acknowledged. Killed at any instant, the next process goes on from what the journal
and the consumer hold: an order without outcome comes again and is repeated, which the driver's "ensure" makes
harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from domain.orders import Fault, Heartbeat, HostInventory, Order, Report
from hypervisor_agent.asks import AskService
from hypervisor_agent.consoles import Consoles
from hypervisor_agent.consumer import Delivery, OrderConsumer, shares_of
from hypervisor_agent.driver import Done, Driver, OrderFailed, Unsupported
from hypervisor_agent.filtering import FilterOrders, is_filter_order
from hypervisor_agent.journal import Entry, Journal, JournalFailed, Unsent
from hypervisor_agent.link import Link
from hypervisor_agent.observer import Observer
from hypervisor_agent.reporter import Reporter

MAX_HELD = 256
EXTEND_SECONDS = 10.0
JOURNAL_RETRY_SECONDS = 5.0
SLOW_CANCEL_SECONDS = 30.0
LAST_ANSWER_SECONDS = 1.0
DEFAULT_PARALLEL = 8
PARALLEL = {"simulated": 256, "libvirt-test": 64}

log = structlog.get_logger("agent")
_encode = msgspec.json.Encoder().encode
_decode_order = msgspec.json.Decoder(Order).decode


@dataclass
class _Job:
    """An order in hand. `work` is the driver's part of it, the only part that a newer order may cancel."""

    order: Order
    delivery: Delivery
    work: asyncio.Task[Done] | None = None
    superseded: bool = False


@dataclass
class _Lane:
    """The orders of one server: the one being carried out and the newest that waits for it."""

    running: _Job | None = None
    waiting: _Job | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class HostAgent:
    """The agent of one host. Several may share a process: its link, journal and reporter."""

    def __init__(
        self, host: str, driver: Driver, link: Link, journal: Journal, reporter: Reporter, share: int = 1
    ) -> None:
        """`share`: how many hosts are on this machine together; each offers its part of it."""
        self.host = host
        self._share = share
        self._driver = driver
        self._link = link
        self._journal = journal.of(host)
        self._reporter = reporter
        self._lanes: dict[str, _Lane] = {}
        self._slots = asyncio.Semaphore(PARALLEL.get(driver.name, DEFAULT_PARALLEL))
        self._held: dict[int, Delivery] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._consumer = OrderConsumer(link, host, self._take_all, MAX_HELD)
        self._filters = FilterOrders(host, driver)
        self._observer = Observer(host, driver, self._journal, reporter, self._lanes.__contains__)
        self._consoles = Consoles(host, driver, link)
        self._asks = AskService(host, driver, link, self._observer, self._consoles)

    async def start(self) -> None:
        """Tell what the last process could not, then the inventory, then serve."""
        await self._driver.open()
        for unsent in self._journal.unsent:
            self._reporter.send(self._journal, unsent)
        await self.send_inventory()
        self._observer.start()
        await self._observer.look()
        await self._consoles.start()
        await self._asks.start()
        await self._consumer.start()
        # Whoever listens has not heard of this host for a while.
        self._link.on_connect(lambda: self._spawn(self.heartbeat()))

    async def stop(self, timeout: float) -> None:
        """Take nothing more, let what runs end within `timeout` seconds, hand back what did not, close the driver."""
        await self._consumer.stop()
        await self._consoles.stop()
        running = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if running:
            _, late = await asyncio.wait(running, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._observer.stop()
        await self._filters.stop()
        if self._answering:
            await asyncio.wait(self._answering, timeout=LAST_ANSWER_SECONDS)
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        for delivery in self._held.values():
            await delivery.again(0)
        await self._driver.close()

    async def send_inventory(self) -> None:
        inventory = _encode(part_of(await self._driver.inventory(), self._share))
        unsent = Unsent("inventory", f"{self.host}:inventory:{datetime.now(UTC).timestamp()}", inventory)
        await self._journal.keep(unsent)
        self._reporter.send(self._journal, unsent)

    async def reconcile(self) -> None:
        await self._observer.look()

    async def heartbeat(self) -> None:
        beat = Heartbeat(
            host=self.host,
            at=datetime.now(UTC),
            guests=len(self._journal.expected()),
            running_orders=len(self._lanes),
            trouble=await self._journal.trouble(),
        )
        await self._link.send(f"heartbeat.{self.host}", _encode(beat))

    async def extend(self) -> None:
        """Keep the consumer from delivering again what is in hand."""
        messages = {id(message): message for message in (delivery.message for delivery in self._held.values())}
        for message in messages.values():
            await message.extend()

    def _take_all(self, delivery: Delivery) -> None:
        """Take each order of a message."""
        try:
            shares = shares_of(delivery)
        except msgspec.DecodeError as error:
            self._refuse(delivery, error)
            return
        for share in shares:
            self._take(share)

    def _refuse(self, delivery: Delivery, error: Exception) -> None:
        log.error("an order can not be read and is refused", host=self.host, error=str(error))
        self._spawn(delivery.refuse())

    def _take(self, delivery: Delivery) -> None:
        try:
            if is_filter_order(delivery.data):
                self._filters.take(delivery)
                return
            order = _decode_order(delivery.data)
        except msgspec.DecodeError as error:
            self._refuse(delivery, error)
            return
        lane = self._lanes.get(order.server_id)
        newest = (lane.waiting or lane.running) if lane else None
        known = self._journal.entry(order.server_id)
        if newest is not None and newest.order.generation == order.generation:
            self._hold(newest, delivery)
        elif newest is not None and order.generation < newest.order.generation:
            self._void(order, delivery)
        elif known is not None and known.generation == order.generation and known.report is not None:
            self._repeat(order, known.report, delivery)
        elif known is not None and order.generation < known.generation:
            self._void(order, delivery)
        else:
            self._queue(_Job(order, delivery), lane)

    def _hold(self, job: _Job, delivery: Delivery) -> None:
        """The order in hand came once more: the newer delivery is the one to acknowledge."""
        self._held.pop(id(job.delivery), None)
        if job.delivery.message is delivery.message:  # twice in one message, which waits for both
            self._spawn(job.delivery.ack())
        job.delivery = delivery
        self._held[id(delivery)] = delivery

    def _void(self, order: Order, delivery: Delivery) -> None:
        log.info("an order of an older generation is ignored", **self._about(order))
        self._spawn(delivery.ack())

    def _repeat(self, order: Order, report: bytes, delivery: Delivery) -> None:
        log.info("an order that was done comes again; repeating its report", **self._about(order))
        unsent = Unsent(order.server_id, self._report_id(order), report)
        self._spawn(self._answer(unsent, delivery))

    def _queue(self, job: _Job, lane: _Lane | None) -> None:
        if lane is None:
            lane = self._lanes[job.order.server_id] = _Lane()
        if lane.waiting is not None:
            self._held.pop(id(lane.waiting.delivery), None)
            self._void(lane.waiting.order, lane.waiting.delivery)
        lane.waiting = job
        self._held[id(job.delivery)] = job.delivery
        if lane.task is None:
            lane.task = asyncio.create_task(self._serve(job.order.server_id, lane))
            return
        running = lane.running
        if running is not None and running.order.generation < job.order.generation:
            running.superseded = True
            if running.work is not None and not running.work.done():
                log.info("a newer order cancels the one being carried out", **self._about(running.order))
                running.work.cancel()

    async def _serve(self, server_id: str, lane: _Lane) -> None:
        """Carry out a server's orders one after another until none waits."""
        try:
            while lane.waiting is not None:
                async with self._slots:
                    job, lane.waiting = lane.waiting, None
                    lane.running = job
                    await self._carry_out(job)
                    lane.running = None
        finally:
            del self._lanes[server_id]

    async def _carry_out(self, job: _Job) -> None:
        order = job.order
        try:
            await self._journal.started(order.server_id, order.generation, order.id)
            report = await self._work(job)
            if report is None:
                await self._drop(job)
                return
            body = _encode(report)
            known = self._journal.entry(order.server_id)
            power_state = report.power_state
            if power_state is None and report.outcome == "failed" and known is not None:
                power_state = known.power_state
            unsent = Unsent(order.server_id, report.id, body)
            entry = Entry(order.generation, order.id, body, power_state)
            await self._journal.finished(order.server_id, entry, unsent)
        except JournalFailed as error:
            log.error("the order waits for a journal that can be written", error=str(error), **self._about(order))
            self._held.pop(id(job.delivery), None)
            await job.delivery.again(JOURNAL_RETRY_SECONDS)
            return
        self._spawn(self._answer(unsent, job.delivery))

    async def _drop(self, job: _Job) -> None:
        self._held.pop(id(job.delivery), None)
        await job.delivery.ack()

    async def _work(self, job: _Job) -> Report | None:
        """What the driver made of an order; null if a newer order took its place before it held."""
        order = job.order
        if job.superseded:
            return None
        left = (order.deadline - datetime.now(UTC)).total_seconds() if order.deadline else None
        if left is not None and left <= 0:
            fault = Fault(
                "expired", f"The order {order.kind} reached {self.host} after its deadline; nothing was done."
            )
            return self._report(order, "failed", fault=fault)

        def progress(percent: int, what: str) -> None:
            self._reporter.progress(
                self.host, self._report(order, "progress", progress=percent, details={"message": what})
            )

        job.work = asyncio.create_task(self._driver.carry_out(order, progress))
        try:
            await self._ended(job.work, left, order)
            done = job.work.result()
        except asyncio.CancelledError:
            if job.superseded:
                return None
            if job.work.cancelled() and not _being_cancelled():
                fault = Fault("timeout", f"The order {order.kind} did not end before its deadline and was stopped.")
                return self._report(order, "failed", fault=fault)
            job.work.cancel()
            raise
        except Unsupported as error:
            return self._report(order, "failed", fault=error.fault, power_state=error.power_state, unsupported=True)
        except OrderFailed as error:
            return self._report(
                order,
                "failed",
                fault=error.fault,
                power_state=error.power_state,
                details={"changed": error.changed},
            )
        except Exception as error:  # the boundary to the hypervisor: a driver's defect is a failed order
            log.exception("the driver failed unexpectedly", **self._about(order))
            fault = Fault("driver_error", f"The driver failed at {order.kind}: {error}", repr(error))
            return self._report(order, "failed", fault=fault)
        return self._report(
            order, "succeeded", power_state=done.power_state, details=done.details, sub_steps=done.sub_steps
        )

    async def _ended(self, work: asyncio.Task[Done], left: float | None, order: Order) -> None:
        """Wait for the driver; past the deadline cancel it, and wait until it let go of the guest."""
        ended, _ = await asyncio.wait({work}, timeout=left)
        if not ended:
            work.cancel()
        while not work.done():
            ended, _ = await asyncio.wait({work}, timeout=SLOW_CANCEL_SECONDS)
            if not ended:
                log.warning("the driver does not let go of an order that was cancelled", **self._about(order))

    async def _answer(self, unsent: Unsent, delivery: Delivery) -> None:
        """Acknowledge an order when its report arrived."""
        self._held[id(delivery)] = delivery
        await asyncio.shield(self._reporter.send(self._journal, unsent))
        self._held.pop(id(delivery), None)
        await delivery.ack()

    def _report(self, order: Order, outcome: Any, **fields: Any) -> Report:
        return Report(
            id=self._report_id(order) if outcome != "progress" else f"{self._report_id(order)}:{fields['progress']}",
            host=self.host,
            server_id=order.server_id,
            outcome=outcome,
            generation=order.generation,
            order_id=order.id,
            occurred_at=datetime.now(UTC),
            **fields,
        )

    def _report_id(self, order: Order) -> str:
        return f"{self.host}:{order.server_id}:{order.id}"

    def _about(self, order: Order) -> dict[str, Any]:
        return {
            "host": self.host,
            "server_id": order.server_id,
            "kind": order.kind,
            "order": order.id,
            "request_id": order.request_id,
        }

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def part_of(inventory: HostInventory, share: int) -> HostInventory:
    """What one of so many hosts on the same machine offers, so that its CPUs and memory are not counted twice.

    The disk is that of the host's directory, which may be on a file system of its own.
    """
    return msgspec.structs.replace(
        inventory, vcpus=max(1, inventory.vcpus // share), memory_mb=max(1, inventory.memory_mb // share)
    )
