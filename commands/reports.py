"""Reports of agents become events, if they still fit: from the host that holds the server, for the order that is out.

The stream is a work queue: a report is acknowledged when what follows from it is in the log, or when it is stale
(another host, an older generation, a step that is over). Stale ones are counted, never applied.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from uuid import NAMESPACE_OID, uuid5

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.errors import BadRequestError

from commands import late_detach
from commands.handler import Commands
from commands.lease import LeaseLost
from commands.orders import OrderBook, destroy_order
from commands.streams import direct_reports, reports_subject
from domain import decide
from domain.decide import StepOutcome
from domain.errors import Rejected
from domain.orders import LET_GO, SEVERAL, HostInventory, Report
from domain.server import Server, ServerEvent
from eventlog.envelope import Recorded
from eventlog.log import EventLog

log_ = structlog.get_logger(__name__)

MAX_CONCURRENT_REPORTS = 256
NAK_SECONDS = 1.0
DRAIN_SECONDS = 3.0
DIRECT_SECONDS = 0.5

_decode = msgspec.json.Decoder(Report).decode
_decode_several = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_inventory = msgspec.json.Decoder(HostInventory).decode


class ReportReader:
    """Takes reports from the queue and appends what follows. `counts` tells how many were applied, stale, broken."""

    def __init__(
        self,
        log: EventLog,
        commands: Commands,
        orders: OrderBook,
        inventory: Callable[[HostInventory], Awaitable[None]],
        awaited: Callable[[str, int], Recorded | None],
    ) -> None:
        self._log = log
        self._commands = commands
        self._orders = orders
        self._inventory = inventory
        self._awaited = awaited
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_REPORTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._stopped = False
        self.counts: Counter[str] = Counter()

    async def start(self, term: int) -> None:
        """Take the reports from now on, as the conductor of this term."""
        self._subscription = await self._log.nc.subscribe(reports_subject(term), cb=self._arrived)
        await direct_reports(self._log.js, term)
        self._log.on_reconnect(partial(self._reconnected, term))

    def _reconnected(self, term: int) -> None:
        if not self._stopped:
            task = asyncio.create_task(self._direct_anew(term))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _direct_anew(self, term: int) -> None:
        """Ask for the reports as if for the first time, for NATS may have forgotten which of them were taken."""
        while not self._stopped:
            try:
                await direct_reports(self._log.js, term)
                return
            except BadRequestError as error:
                log_.warning("another conductor has the reports", term=term, error=str(error))
                return
            except NatsError as error:
                log_.warning("the reports are asked for again", error=repr(error))
                await asyncio.sleep(DIRECT_SECONDS)

    async def stop(self) -> None:
        """Take no more, finish what was taken; what does not finish in time comes again to the next conductor."""
        self._stopped = True
        with contextlib.suppress(TimeoutError, NatsError):
            async with asyncio.timeout(DRAIN_SECONDS):
                if self._subscription is not None:
                    drained: Awaitable[None] = self._subscription.drain()  # type: ignore[no-untyped-call]  # nats-py gives no types
                    await drained
                await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _arrived(self, message: Msg) -> None:
        await self._slots.acquire()
        task = asyncio.create_task(self._settle(message))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _settle(self, message: Msg) -> None:
        """Apply one report and acknowledge it; what cannot be applied now comes back, what never can is dropped."""
        try:
            await self._commands.precedence.turn()
            host, what = message.subject.split(".")[1:3]
            if what == "inventory":
                await self._registered(host, _decode_inventory(message.data))
            elif what == SEVERAL:
                await self._settle_several(host, _decode_several(message.data))
            else:
                self.counts[await self._apply(host, _decode(message.data))] += 1
            await message.ack()
        except LeaseLost as lost:
            log_.info("report left to another conductor", subject=message.subject, reason=str(lost))
        except Rejected as rejected:
            log_.warning("report postponed", subject=message.subject, reason=rejected.reason)
            self.counts["postponed"] += 1
            await message.nak(delay=NAK_SECONDS)
        except (msgspec.DecodeError, ValueError) as error:
            log_.error("report unreadable", subject=message.subject, error=str(error))
            self.counts["broken"] += 1
            await message.term()
        except Exception:
            log_.exception("report failed", subject=message.subject)
            self.counts["failed"] += 1
            await message.nak(delay=NAK_SECONDS)

    async def _settle_several(self, host: str, reports: list[msgspec.Raw]) -> None:
        """All of them, each by itself. If one has to come back all do: those that were applied are stale by then."""
        settled = await asyncio.gather(*(self._settle_one(host, raw) for raw in reports), return_exceptions=True)
        errors = [one for one in settled if isinstance(one, BaseException)]
        if errors:
            raise errors[0]

    async def _settle_one(self, host: str, raw: msgspec.Raw) -> None:
        try:
            report = _decode(raw)
        except (msgspec.DecodeError, ValueError) as error:
            log_.error("report unreadable", host=host, error=str(error))
            self.counts["broken"] += 1
            return
        self.counts[await self._apply(host, report)] += 1

    async def _registered(self, host: str, inventory: HostInventory) -> None:
        if inventory.host == host:
            await self._inventory(inventory)
        else:  # an agent speaks for its own host only
            log_.warning("inventory dropped: it is of another host", host=host, claimed=inventory.host)
            self.counts["stale"] += 1

    async def _apply(self, host: str, report: Report) -> str:
        if report.host != host:
            log_.warning("report dropped: it is of another host", host=host, claimed=report.host)
            return "stale"
        applied = "stale"

        def choose(server: Server) -> list[ServerEvent]:
            nonlocal applied
            events = self._events(server, report)
            applied = "applied" if events else "stale"
            return events

        known = None if report.outcome == "observed" else self._awaited(report.server_id, report.generation)
        server = await self._commands.internal(
            report.server_id, choose, causation_id=f"report:{report.id}", known=known
        )
        if server is not None and report.outcome == "observed":
            await self._reap(server, report)
        if applied == "stale":
            about = {"server_id": report.server_id, "outcome": report.outcome, "generation": report.generation}
            log_.info("report dropped: nothing follows from it", host=host, **about)
        return applied

    def _events(self, server: Server, report: Report) -> list[ServerEvent]:
        if server.host != report.host or server.generation != report.generation:
            return []
        now = datetime.now(UTC)
        operation = server.operation
        if report.outcome == "observed":
            if report.power_state is None:
                return []
            if LET_GO in report.details:
                return late_detach.finish(server, report.details[LET_GO], report.id, now)
            request_id = f"req-{uuid5(NAMESPACE_OID, report.id)}"
            return decide.observe(server, report.power_state, report.reason, request_id, now)
        if operation is None or operation.awaits != "agent":
            return []
        if report.outcome == "progress":
            what = str(report.details.get("message", ""))
            return decide.progress(server, operation.step, report.progress or 0, what, now)
        outcome = StepOutcome(
            step=operation.step,
            succeeded=report.outcome == "succeeded",
            fault=report.fault,
            power_state=report.power_state,
            unchanged=report.unsupported,
            details=report.details,
            sub_steps=report.sub_steps,
            host=report.host,
        )
        return decide.advance(server, outcome, now)

    async def _reap(self, server: Server, report: Report) -> None:
        """A guest seen where its server is not (deleted, moved, shelved) has to go."""
        if report.power_state in (None, "nostate"):
            return
        gone = server.deleted or (server.host != report.host and server.operation is None)
        if not gone:
            return
        log_.warning("leftover guest is destroyed", server_id=server.id, host=report.host)
        generation = max(server.generation, report.generation) + 1
        await self._orders.send(destroy_order(server, f"reap-{report.id}", report.host, generation))
