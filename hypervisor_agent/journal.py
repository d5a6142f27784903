"""What an agent remembers over its own death: the last order of each server, and the reports that are not sent yet.

One SQLite file per agent process (WAL), one row per host and server. Guarantees:

- What `await`ed returned from is in the file: it survives `kill -9`. (`synchronous=NORMAL`: the newest rows may be lost
  when the machine stops, which stops its guests too; repeating an order is harmless.)
- An outcome and its unsent report are written in one transaction; a report leaves the file only after the control
  plane's log has it.
- Size is bounded: one row per server, and per server one unsent report for its orders and one for observations (a
  newer one replaces an older one, which nobody needs any more). Rows of servers that left long ago are dropped.

Writes of the same turn of the event loop share one transaction. A failing disk raises `JournalFailed`; the order is
then not acknowledged and comes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from dataclasses import dataclass, replace
from pathlib import Path

from domain.orders import PowerStateName

GONE = (None, "nostate")  # power states of a server that is not on this hypervisor (any more, or yet)
FORGET_SECONDS = 7 * 24 * 3600.0
BUSY_SECONDS = 5.0

_SCHEMA = """
create table if not exists servers (
    host text not null, server_id text not null, generation integer not null, order_id text not null,
    report blob, power_state text, updated_at real not null, primary key (host, server_id)
) without rowid;
create table if not exists outbox (
    host text not null, slot text not null, report_id text not null, body blob not null, primary key (host, slot)
) without rowid;
"""
_REMEMBER = "insert or replace into servers values (?, ?, ?, ?, ?, ?, ?)"
_KEEP = "insert or replace into outbox values (?, ?, ?, ?)"
_SENT = "delete from outbox where host = ? and slot = ? and report_id = ?"


class JournalFailed(Exception):
    """The journal can not be read or written; nothing was promised."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The last order seen for a server. `report` is null while it is being carried out; `power_state` as last told."""

    generation: int
    order_id: str
    report: bytes | None = None
    power_state: PowerStateName | None = None


@dataclass(frozen=True, slots=True)
class Unsent:
    """A report on its way. `slot` is what a newer report of the same kind replaces: `<who>` or `<who>:<kind>`."""

    slot: str
    report_id: str
    body: bytes

    @property
    def who(self) -> str:
        """The server (or `inventory`) that the report is about: the end of its subject."""
        return self.slot.partition(":")[0]


class Journal:
    """The file. Made by `open`; belongs to one event loop."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.trouble = ""  # why the last write failed; empty when it did not
        self._pending: list[tuple[str, tuple[object, ...]]] = []
        self._flushed: asyncio.Future[None] | None = None

    @classmethod
    def open(cls, path: Path) -> Journal:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=normal")
            connection.executescript(_SCHEMA)
            connection.execute(
                "delete from servers where coalesce(power_state, 'nostate') = 'nostate' and updated_at < ?",
                (time.time() - FORGET_SECONDS,),
            )
        except sqlite3.Error as error:
            raise JournalFailed(f"the agent's journal {path} can not be opened: {error}") from error
        return cls(connection)

    def close(self) -> None:
        if self._flushed is not None:
            self._flush()
        self._connection.close()

    def of(self, host: str) -> HostJournal:
        entries = {
            row[0]: Entry(*row[1:])
            for row in self._connection.execute(
                "select server_id, generation, order_id, report, power_state from servers where host = ?", (host,)
            )
        }
        unsent = [
            Unsent(*row)
            for row in self._connection.execute("select slot, report_id, body from outbox where host = ?", (host,))
        ]
        return HostJournal(self, host, entries, unsent)

    def write(self, statement: str, values: tuple[object, ...]) -> asyncio.Future[None]:
        """Add to the transaction of this turn of the loop. The future ends when it is committed."""
        self._pending.append((statement, values))
        if self._flushed is None:
            loop = asyncio.get_running_loop()
            self._flushed = loop.create_future()
            loop.call_soon(self._flush)
        return self._flushed

    def _flush(self) -> None:
        if self._flushed is None:
            return
        pending, self._pending = self._pending, []
        flushed, self._flushed = self._flushed, None
        try:
            self._connection.execute("begin immediate")
            for statement, values in pending:
                self._connection.execute(statement, values)
            self._connection.execute("commit")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.rollback()
            self.trouble = f"the agent's journal can not be written: {error}"
            if not flushed.done():
                flushed.set_exception(JournalFailed(self.trouble))
                flushed.exception()  # a write that nobody waits for may fail: the row is written again or not needed
            return
        self.trouble = ""
        if not flushed.done():
            flushed.set_result(None)

    async def try_again(self) -> None:
        """Whether it can be written by now: `trouble` tells. Leaves nothing."""
        self.write(_KEEP, ("", "", "", b""))
        with contextlib.suppress(JournalFailed):
            await asyncio.shield(self.write(_SENT, ("", "", "")))


class HostJournal:
    """One host's part of the journal, with its rows in memory."""

    def __init__(self, journal: Journal, host: str, entries: dict[str, Entry], unsent: list[Unsent]) -> None:
        self.host = host
        self.unsent = unsent
        self._journal = journal
        self._entries = entries

    def entry(self, server_id: str) -> Entry | None:
        return self._entries.get(server_id)

    async def trouble(self) -> str:
        """Why it can not be written now; empty when it can."""
        if self._journal.trouble:
            await self._journal.try_again()
        return self._journal.trouble

    def expected(self) -> dict[str, Entry]:
        """The servers that should be on this hypervisor, by what was last told about them."""
        return {server_id: entry for server_id, entry in self._entries.items() if entry.power_state not in GONE}

    async def started(self, server_id: str, generation: int, order_id: str) -> None:
        """Remember an order before anything is done for it, so that older ones stay void."""
        known = self._entries.get(server_id)
        await self._remember(server_id, Entry(generation, order_id, None, known.power_state if known else None))

    async def finished(self, server_id: str, entry: Entry, unsent: Unsent) -> None:
        """Remember an order's outcome and that its report has to be sent, both or neither."""
        self._keep(unsent)
        await self._remember(server_id, entry)

    async def observed(self, server_id: str, power_state: PowerStateName, generation: int, unsent: Unsent) -> None:
        """Remember that a power state is being told that no order caused; `generation` is what the guest bears.

        One that is newer than what is known here belongs to an order that this journal lost: what is known is void.
        """
        known = self._entries.get(server_id)
        if known is None or known.generation < generation:
            known = Entry(generation, "")
        self._keep(unsent)
        await self._remember(server_id, replace(known, power_state=power_state))

    async def keep(self, unsent: Unsent) -> None:
        """Remember a report of the host itself until it is sent."""
        await asyncio.shield(self._keep(unsent))

    def sent(self, unsent: Unsent) -> None:
        """The control plane's log has this report. Losing this note only repeats the report."""
        self._journal.write(_SENT, (self.host, unsent.slot, unsent.report_id))

    def _keep(self, unsent: Unsent) -> asyncio.Future[None]:
        return self._journal.write(_KEEP, (self.host, unsent.slot, unsent.report_id, unsent.body))

    async def _remember(self, server_id: str, entry: Entry) -> None:
        before, self._entries[server_id] = self._entries.get(server_id), entry
        row = (entry.generation, entry.order_id, entry.report, entry.power_state, time.time())
        try:
            await asyncio.shield(self._journal.write(_REMEMBER, (self.host, server_id, *row)))
        except JournalFailed:  # else what was not kept would not be told, or done, again
            if self._entries.get(server_id) is entry:
                del self._entries[server_id]
                if before is not None:
                    self._entries[server_id] = before
            raise
