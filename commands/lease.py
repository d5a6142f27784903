"""One conductor at a time: the lease, how it is waited for, held, lost and given up.

The lease itself is a small aggregate of the log (`domain.lease`). Its holder tells that it lives on a plain NATS
subject, so that holding costs the log nothing; who hears nothing for `SILENCE_SECONDS`, or knows that the holder's
process has ended, takes it with a conditional commit.

What keeps a former holder from doing harm, however long it was paused and wherever it goes on:

- It follows the log in order, so it reads that it lost before it reads anything that came after, and stops there.
- `Term.assure`, called before every commit and order, asks the log's leader again whenever it has not done so for
  `FRESH_SECONDS` of a clock that also runs while the process or the machine sleeps.
- What may have passed both already (a request half-way to NATS) meets a condition: a commit the version that its
  aggregate had, an order the generation that its agent has. Placing is the one decision on more than the aggregate
  it changes: `decide.taken_over` moves every server that is being placed past the version its former conductor saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import cast
from uuid import uuid4

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from domain import lease, resources
from domain.errors import Rejected, Unavailable
from domain.resources import Lease
from eventlog.envelope import Recorded
from eventlog.log import EventLog, LogUnavailable

log_ = structlog.get_logger(__name__)

KIND, CONDUCTOR = "lease", "conductor"
ALIVE = "conductor.alive"
BEAT_SECONDS = 1.0
FRESH_SECONDS = 2.5


class LeaseLost(RuntimeError):
    """Another conductor has the lease: nothing that this one decided may be carried out any more."""


class LeaseSeeker:
    """Waits for the lease. `me` names this process for ever; `is_gone` tells whether another such name has ended."""

    def __init__(self, log: EventLog, commands: Commands, me: str, is_gone: Callable[[str], bool]) -> None:
        self._log = log
        self._commands = commands
        self._me = me
        self._is_gone = is_gone
        self._heard = (0, 0.0)  # the term that was last heard of, and when
        self._listening_since = _now()
        self._wake = asyncio.Event()
        log.on_reconnect(self._listen_anew)

    async def acquire(self) -> Term:
        """Wait until this process holds the lease, as long as that takes."""
        subscription = await self._log.nc.subscribe(ALIVE, cb=self._alive)
        self._listen_anew()
        try:
            while True:
                term = await self._attempt()
                if term is not None:
                    return term
                self._wake.clear()
                try:
                    async with asyncio.timeout(BEAT_SECONDS / 2):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            if not self._log.nc.is_closed:
                await subscription.unsubscribe()

    async def _attempt(self) -> Term | None:
        try:
            state = await _read(self._log)
            gone = state is not None and self._is_gone(state.holder)
            if not lease.may_take(state, self._me, gone=gone, silent=self._silent_for(state)):
                return None
            taken = await self._take(state)
        except (Rejected, LogUnavailable) as error:
            log_.info("lease not taken", error=str(error))
            return None
        contested = lease.predecessor_may_act(state, self._me, gone=gone)
        log_.info("lease taken", term=taken.version, from_holder=state.holder if state else "", contested=contested)
        return Term(self._log, self._commands, taken.version, contested)

    async def _take(self, seen: Lease | None) -> Lease:
        context = CommandContext(SERVICE, f"req-{uuid4()}")
        if seen is None:
            fields = {"name": CONDUCTOR, "holder": self._me}
            made = await self._commands.create(KIND, fields, context, id=CONDUCTOR, verb="take", visible=False)
            return cast(Lease, made)

        def check(now: resources.Resource) -> dict[str, str]:
            return lease.take(cast(Lease, now), seen.version, self._me)

        taken = await self._commands.update(KIND, CONDUCTOR, {}, context, verb="take", check=check, visible=False)
        return cast(Lease, taken)

    def _silent_for(self, state: Lease | None) -> float:
        """For how long the holder could have been heard and was not."""
        term, at = self._heard
        heard = at if state is not None and term == state.version else 0.0
        return _now() - max(heard, self._listening_since) if self._log.nc.is_connected else 0.0

    def _listen_anew(self) -> None:
        self._listening_since = _now()

    async def _alive(self, message: Msg) -> None:
        if message.data == b"free":
            self._wake.set()
        elif message.data.isdigit():
            self._heard = (int(message.data), _now())


class Term:
    """The lease while this process holds it. Made by `LeaseSeeker`; it begins to tell that it lives with `start`."""

    def __init__(self, log: EventLog, commands: Commands, number: int, contested: bool) -> None:
        self.number = number
        self.contested = contested  # the holder before may still be running
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = log
        self._commands = commands
        self._confirmed = _now()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._beat(), name="lease")

    async def assure(self) -> None:
        """Return if the lease is held. Raises LeaseLost, and Unavailable while the log can not tell."""
        if not self.lost.done() and _now() - self._confirmed > FRESH_SECONDS:
            try:
                await self._confirm()
            except LogUnavailable as error:
                raise Unavailable("The event log does not say who conducts", hint="Try again soon.") from error
        if self.lost.done():
            raise LeaseLost(f"term {self.number} is over")

    async def is_over(self) -> bool:
        """Whether the term has ended, as far as the log says so now."""
        with contextlib.suppress(LogUnavailable):
            await self._confirm()
        return self.lost.done()

    def saw(self, recorded: Recorded) -> None:
        """A commit of the lease came by in the log. Raises LeaseLost if it ended this term."""
        if recorded.commit.version > self.number:
            self._end()
            raise LeaseLost(f"term {self.number} ended at position {recorded.position}")

    async def stop(self) -> None:
        """Tell no more that it lives; the lease itself is still held."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def give_up(self) -> None:
        """Stop holding, so that another one need not wait. Nothing is lost if that fails: silence tells it too."""
        await self.stop()
        if self.lost.done():
            return
        self._end()
        context = CommandContext(SERVICE, f"req-{uuid4()}")

        def check(now: resources.Resource) -> dict[str, str]:
            return lease.give_up(cast(Lease, now), self.number)

        try:
            await self._commands.update(KIND, CONDUCTOR, {}, context, verb="give_up", check=check, visible=False)
            await self._log.nc.publish(ALIVE, b"free")
        except (Rejected, NatsError) as error:
            log_.info("lease not given up", error=str(error))

    async def _beat(self) -> None:
        while not self.lost.done():
            try:
                await self._confirm()
                await self._log.nc.publish(ALIVE, b"%d" % self.number)
            except (LogUnavailable, NatsError) as error:
                log_.info("lease not confirmed", error=str(error))
            await asyncio.sleep(BEAT_SECONDS)

    async def _confirm(self) -> None:
        asked = _now()
        state = await _read(self._log)
        if state is None or state.version != self.number:
            self._end()
        else:
            self._confirmed = asked

    def _end(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


async def _read(log: EventLog) -> Lease | None:
    recorded = await log.last_from_leader(KIND, CONDUCTOR)
    return None if recorded is None else cast(Lease, resources.decode(KIND, recorded.commit.state))


def _now() -> float:
    """Seconds of a clock that runs on while a process is stopped and while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
