"""The agent's journal: what it promises is there after it is opened anew."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from hypervisor_agent.journal import Entry, HostJournal, Journal, JournalFailed, Unsent


async def test_outcome_and_report_are_there_after_opening_it_anew(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    host = journal.of("host-1")
    await host.started("s", 3, "17")
    await host.finished("s", Entry(3, "17", b"{}", "running"), Unsent("s", "r1", b"{}"))
    journal.close()
    journal = Journal.open(tmp_path / "journal.db")
    again = journal.of("host-1")
    assert again.entry("s") == Entry(3, "17", b"{}", "running")
    assert again.unsent == [Unsent("s", "r1", b"{}")]
    assert journal.of("host-2").entry("s") is None
    journal.close()


async def test_an_order_that_only_began_has_no_report(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    host = journal.of("host-1")
    await host.finished("s", Entry(1, "1", b"{}", "paused"), Unsent("s", "r1", b"{}"))
    await host.started("s", 2, "2")
    assert host.entry("s") == Entry(2, "2", None, "paused")
    journal.close()


async def test_a_guest_knows_of_orders_that_the_journal_lost(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    host = journal.of("host-1")
    await host.finished("s", Entry(5, "5", b"{}", "running"), Unsent("s", "r1", b"{}"))
    await host.observed("s", "shutdown", 5, Unsent("s:observed", "r2", b"{}"))
    assert host.entry("s") == Entry(5, "5", b"{}", "shutdown")
    await host.observed("s", "running", 7, Unsent("s:observed", "r3", b"{}"))
    await host.observed("unheard", "running", 3, Unsent("unheard:observed", "r4", b"{}"))
    journal.close()
    journal = Journal.open(tmp_path / "journal.db")
    again = journal.of("host-1")
    assert again.entry("s") == Entry(7, "", None, "running")
    assert again.entry("unheard") == Entry(3, "", None, "running")
    journal.close()


async def test_a_newer_report_takes_the_older_ones_place(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    host = journal.of("host-1")
    old, new = Unsent("s", "r1", b"1"), Unsent("s", "r2", b"2")
    await host.keep(old)
    await host.keep(new)
    host.sent(old)  # arrives late: it must not take the newer one away
    journal.close()
    journal = Journal.open(tmp_path / "journal.db")
    assert journal.of("host-1").unsent == [new]
    journal.close()


async def test_only_servers_with_a_guest_are_expected(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    host = journal.of("host-1")
    for server, power_state in (("running", "running"), ("gone", "nostate"), ("unknown", None)):
        await host.finished(server, Entry(1, "1", b"{}", power_state), Unsent(server, server, b"{}"))  # type: ignore[arg-type]  # plain text here
    assert set(host.expected()) == {"running"}
    journal.close()


async def test_writes_of_one_turn_are_one_transaction(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    hosts = [journal.of(f"host-{number}") for number in range(50)]
    watcher = sqlite3.connect(tmp_path / "journal.db")
    before = watcher.execute("pragma data_version").fetchone()
    await asyncio.gather(*(host.started("s", 1, "1") for host in hosts))
    assert watcher.execute("pragma data_version").fetchone()[0] == before[0] + 1
    assert watcher.execute("select count(*) from servers").fetchone() == (50,)
    watcher.close()
    journal.close()


async def test_a_journal_that_can_not_be_written_says_so(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    host: HostJournal = journal.of("host-1")
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("drop table servers")
    other.close()
    with pytest.raises(JournalFailed):
        await host.started("s", 1, "1")
    journal.close()
    (tmp_path / "text.db").write_text("no database, however long it may be " * 30)
    with pytest.raises(JournalFailed, match=r"text\.db"):
        Journal.open(tmp_path / "text.db")


async def test_what_could_not_be_written_is_not_remembered_and_the_trouble_ends_by_itself(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    host = journal.of("host-1")
    await host.finished("s", Entry(1, "1", b"{}", "running"), Unsent("s", "r1", b"{}"))
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    for table in ("servers", "outbox"):
        full = "begin select raise(abort, 'database or disk is full'); end"
        other.execute(f"create trigger full_{table} before insert on {table} {full}")
    with pytest.raises(JournalFailed, match="disk is full"):
        await host.finished("s", Entry(2, "2", b"{}", "shutdown"), Unsent("s", "r2", b"{}"))
    assert host.entry("s") == Entry(1, "1", b"{}", "running")
    assert "disk is full" in await host.trouble()
    for table in ("servers", "outbox"):
        other.execute(f"drop trigger full_{table}")
    other.close()
    assert await host.trouble() == ""
    journal.close()
    again = Journal.open(tmp_path / "journal.db")
    assert [one.report_id for one in again.of("host-1").unsent] == ["r1"]
    again.close()
