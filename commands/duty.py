"""The conductor's place in a process: standing by until the lease is free, conducting, and standing by again.

Any number of processes may run one each on the same log; one conducts. `failed` ends when this one can not go on, and
its process is then started anew: losing the lease is no such failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from commands.conductor import Conductor
from commands.handler import Commands
from commands.hosts import HostWatch
from commands.lease import LeaseLost, LeaseSeeker, Term
from commands.lookup import Lookup
from commands.settings import CommandSettings
from eventlog.log import EventLog

log_ = structlog.get_logger(__name__)


class Duty:
    """`me` names this process for ever; `is_gone` tells whether the process of another such name has ended."""

    def __init__(
        self,
        log: EventLog,
        commands: Commands,
        read: Lookup,
        settings: CommandSettings,
        watch: HostWatch,
        *,
        me: str,
        is_gone: Callable[[str], bool],
    ) -> None:
        self._log = log
        self._commands = commands
        self._read = read
        self._settings = settings
        self._watch = watch
        self._seeker = LeaseSeeker(log, commands, me, is_gone)
        self.conductor: Conductor | None = None  # while this process conducts
        self.failed: asyncio.Future[None] = asyncio.create_task(self._serve(), name="conductor")

    async def stop(self) -> None:
        """Stop between steps and give the lease up: the next conductor goes on at once."""
        self.failed.cancel()
        await asyncio.gather(self.failed, return_exceptions=True)

    async def _serve(self) -> None:
        while True:
            term = await self._seeker.acquire()
            self.conductor = Conductor(self._log, self._commands, self._read, self._settings, self._watch, term)
            try:
                await self.conductor.start()
                log_.info("conducting", term=term.number)
                await self.conductor.failed
            except LeaseLost as lost:
                log_.warning("standing by", reason=str(lost))
            except Exception as error:  # of a former conductor that was stopped while it began: no failure of this one
                if not await term.is_over():
                    raise
                log_.warning("standing by", reason=str(error))
            finally:
                # In a task of its own: in one that is being cancelled, a timeout ends as another cancellation before
                # Python 3.11.3, and what is to follow it would be left undone.
                await asyncio.create_task(self._leave(self.conductor, term), name="conductor leaves")
                self.conductor = None

    async def _leave(self, conductor: Conductor, term: Term) -> None:
        await conductor.stop()
        await term.give_up()
