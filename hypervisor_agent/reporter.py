"""Reports on their way to the control plane: each is sent until the log of reports has it.

A report is in the journal before it comes here. It is published to `reports.<host>.<server_id>`, or together with those
that came while the host's last message was on its way, as a list to `reports.<host>.several`: one forced write for all
of them. It counts as sent when JetStream acknowledged it; until then it is repeated with growing pauses, through any
failure of NATS, and by the next agent process if this one dies. The receiver knows a repeated report by its generation.
At most one report per slot is waiting: a newer one replaces it, so the queue is bounded by the number of servers.

Progress is told at most once a second per server, when it has grown by ten points, and may be lost.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

import msgspec
import structlog

from domain.orders import SEVERAL, Report
from eventlog.errors import LogUnavailable
from eventlog.mux import NoAnswer
from hypervisor_agent.journal import HostJournal, Unsent
from hypervisor_agent.link import Link

SENDERS = 64
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 1.0
INVENTORY = "inventory"
PROGRESS_SECONDS = 1.0
PROGRESS_POINTS = 10
MAX_TOLD = 10_000
# The most of one message, which the stream takes up to 256 KiB.
MOST_TOGETHER = 64
MOST_BYTES = 64 << 10

log = structlog.get_logger("agent")
_encode = msgspec.json.Encoder().encode


class _PubAck(msgspec.Struct):
    """JetStream's answer to a publish: a sequence if it is stored, else an error."""

    seq: int = 0
    error: dict[str, object] | None = None


_decode_ack = msgspec.json.Decoder(_PubAck).decode


class _Parcel:
    __slots__ = ("done", "journal", "unsent")

    def __init__(self, journal: HostJournal, unsent: Unsent, done: asyncio.Future[None]) -> None:
        self.journal = journal
        self.unsent = unsent
        self.done = done


class Reporter:
    """Sends the reports of all hosts of one agent process. `start` it after the link is open."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[tuple[str, str], _Parcel] = {}
        self._slots: dict[str, deque[str]] = {}  # host -> slots to send; of a host whose turn has come or will come
        self._queue: asyncio.Queue[str] = asyncio.Queue()  # hosts
        self._senders: list[asyncio.Task[None]] = []
        self._told: dict[str, tuple[str, float, int]] = {}  # server -> order, when, percent

    def start(self) -> None:
        self._senders = [asyncio.create_task(self._send_all()) for _ in range(SENDERS)]

    async def close(self, timeout: float) -> None:
        """Give what is waiting a last chance; the rest stays in the journal."""
        waiting = [parcel.done for parcel in self._waiting.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout)
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)

    def send(self, journal: HostJournal, unsent: Unsent) -> asyncio.Future[None]:
        """Send a report that the journal holds. The future ends when it arrived, or a newer one took its place."""
        key = (journal.host, unsent.slot)
        waiting = self._waiting.get(key)
        if waiting is None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[key] = _Parcel(journal, unsent, done)
            if journal.host not in self._slots:
                self._slots[journal.host] = deque()
                self._queue.put_nowait(journal.host)
            self._slots[journal.host].append(unsent.slot)
            return done
        waiting.unsent = unsent
        return waiting.done

    def progress(self, host: str, report: Report) -> None:
        """Tell how far an order is, if that was not told just now."""
        now = asyncio.get_running_loop().time()
        if len(self._told) > MAX_TOLD:
            self._told.clear()
        percent = report.progress or 0
        order, at, told = self._told.get(report.server_id, ("", 0.0, 0))
        if order != report.order_id:
            # What is quick needs no progress: an order's first sign of it only starts the clock.
            self._told[report.server_id] = (report.order_id, now, 0)
            return
        if now - at < PROGRESS_SECONDS or percent < told + PROGRESS_POINTS or percent == 100:
            return
        self._told[report.server_id] = (order, now, percent)
        task = asyncio.create_task(self._tell(host, report))
        task.add_done_callback(lambda ended: ended.exception())

    async def _tell(self, host: str, report: Report) -> None:
        await self._link.send(f"reports.{host}.{report.server_id}", _encode(report))

    async def _send_all(self) -> None:
        """Send for one host after another, never two messages of a host at once."""
        while True:
            host = await self._queue.get()
            pause, most = FIRST_PAUSE_SECONDS, MOST_TOGETHER
            while self._slots[host]:
                bundle = self._bundle(host, most)
                if await self._stored(host, [unsent for _, unsent in bundle]):
                    pause, most = FIRST_PAUSE_SECONDS, MOST_TOGETHER
                    for parcel, unsent in bundle:
                        self._arrived(host, parcel, unsent)
                else:
                    self._slots[host].extend(unsent.slot for _, unsent in bundle)
                    most = 1  # should one of them be the reason, it must not hold up the others
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, MAX_PAUSE_SECONDS)
            del self._slots[host]

    def _bundle(self, host: str, most: int) -> list[tuple[_Parcel, Unsent]]:
        """What the next message of a host holds. An inventory is no report, and is sent alone."""
        slots, size = self._slots[host], 0
        bundle: list[tuple[_Parcel, Unsent]] = []
        while slots and len(bundle) < most:
            parcel = self._waiting[host, slots[0]]
            alone = parcel.unsent.who == INVENTORY
            size += len(parcel.unsent.body)
            if bundle and (alone or size > MOST_BYTES):
                break
            slots.popleft()
            bundle.append((parcel, parcel.unsent))
            if alone:
                break
        return bundle

    def _arrived(self, host: str, parcel: _Parcel, unsent: Unsent) -> None:
        parcel.journal.sent(unsent)
        if parcel.unsent is not unsent:
            self._slots[host].append(unsent.slot)
            return
        del self._waiting[host, unsent.slot]
        if not parcel.done.done():
            parcel.done.set_result(None)

    async def _stored(self, host: str, bundle: list[Unsent]) -> bool:
        first = bundle[0]
        if len(bundle) == 1:
            subject, body, headers = f"reports.{host}.{first.who}", first.body, {"Nats-Msg-Id": first.report_id}
        else:
            body = b"[" + b",".join(unsent.body for unsent in bundle) + b"]"
            subject, headers = f"reports.{host}.{SEVERAL}", None
        try:
            answer = await self._link.request(subject, body, headers)
            ack = _decode_ack(answer.data) if answer.data else _PubAck()
        except (LogUnavailable, NoAnswer, msgspec.DecodeError):
            return False
        if ack.seq and ack.error is None:
            return True
        log.debug("a report was not stored; sending it again", subject=subject, error=ack.error)
        return False
