"""Two conductors on one log: one conducts, the other goes on when it can not, and a former one does no harm."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from cli import process_name
from commands import reports
from commands.audit import MachineAudit
from commands.conductor import MAX_CONCURRENT_STEPS, Conductor
from commands.duty import Duty
from commands.lease import CONDUCTOR, KIND, LeaseLost, LeaseSeeker, Term
from commands.orders import destroy_order
from domain.resources import Lease, decode
from domain.server import Server, decode_server
from eventlog.nats_server import EmbeddedNats
from tests.system import System, context, new_server

pytestmark = pytest.mark.xdist_group("conductor lease")

PER_HOST = 3
ROOM = {"capacity": {"vcpus": 64, "memory_mb": PER_HOST * 96, "disk_gb": 1000}, "persist": False}
PATIENCE_SECONDS = 90.0


class Unfenced(Term):
    """The term of a conductor that was stopped between its last look at the lease and its commit."""

    async def assure(self) -> None:
        return


async def lease_of(system: System) -> Lease:
    recorded = await system.log.last_from_leader(KIND, CONDUCTOR)
    assert recorded is not None
    return cast(Lease, decode(KIND, recorded.commit.state))


async def assert_never_overcommitted(system: System) -> None:
    """At no position of the log do servers hold more of a host than it has; every commit is a legal move."""
    audit, where = MachineAudit(), dict[str, str]()
    async for batch in system.log.scan():
        for one in batch:
            assert audit.feed(one.commit) is None
            if one.commit.kind != "server":
                continue
            server = decode_server(one.commit.state)
            where.pop(server.id, None)
            if server.host is not None and not server.deleted:
                where[server.id] = server.host
                on = [id_ for id_, host in where.items() if host == server.host]
                assert len(on) <= PER_HOST, f"position {one.position}: {server.host} holds {len(on)}"


async def assert_ports_fit(system: System, servers: list[Server]) -> None:
    """Every port is one that a server has, every address taken is one that a port has."""
    ports = [decode("port", one.commit.state) async for one in system.log.scan_last("port")]
    addresses = [decode("address", one.commit.state) async for one in system.log.scan_last("address")]
    living = sorted(one.id for one in ports if not one.deleted)
    assert living == sorted(interface.port_id for server in servers for interface in server.interfaces)
    assert sum(getattr(one, "port_id", None) is not None for one in addresses) == len(living)


async def frozen(system: System, term: Term | None = None) -> Conductor:
    """The system's conductor, in the middle of its work and doing nothing, as a stopped process is."""
    if term is not None:
        await system.conductor.stop()
        system.conductor = Conductor(system.log, system.commands, system.read, system.settings, system.watch, term)
        await system.conductor.start()
        await system.until(lambda: set(system.hosts) <= set(system.conductor.capacity.hosts))
    await hold(system.conductor)
    return system.conductor


async def hold(conductor: Conductor) -> None:
    for _ in range(MAX_CONCURRENT_STEPS):
        await conductor._slots.acquire()


def thaw(conductor: Conductor) -> None:
    for _ in range(MAX_CONCURRENT_STEPS):
        conductor._slots.release()


@asynccontextmanager
async def another(system: System) -> AsyncIterator[Conductor]:
    """A second conductor, which takes the lease because the first is silent. It does nothing until it is let."""
    await system.conductor.term.stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        term = await LeaseSeeker(system.log, system.commands, "another", lambda _: False).acquire()
    assert term.contested
    second = Conductor(system.log, system.commands, system.read, system.settings, system.watch, term)
    await hold(second)
    await second.start()
    try:
        yield second
    finally:
        await second.stop()


@pytest.fixture
async def small(own_nats: EmbeddedNats, tmp_path: Path) -> AsyncIterator[System]:
    async with System.open(own_nats, tmp_path, driver_options=ROOM) as opened:
        yield opened


async def test_a_placement_decided_before_the_lease_was_lost_is_refused_after_it(small: System) -> None:
    """Even when nothing asks about the lease any more: the server moved past the version that was decided on."""
    term = await LeaseSeeker(small.log, small.commands, "this test", lambda _: False).acquire()
    stale = await frozen(small, Unfenced(small.log, small.commands, term.number, contested=False))
    early = [new_server(f"early-{number}") for number in range(2 * PER_HOST)]
    await small.commands.create_servers(early, context())
    await small.until(lambda: len(stale._running) == len(early))
    async with another(small) as second:
        position = await small.log.last_position()
        thaw(stale)
        await asyncio.gather(*stale._tasks)
        assert await small.log.last_position() == position
        with pytest.raises(LeaseLost):
            await stale.failed
        thaw(second)
        servers = [await small.settled(one.id) for one in early]
        assert {server.vm_state for server in servers} == {"active"}
        await assert_never_overcommitted(small)
        await assert_ports_fit(small, servers)


async def test_a_conductor_that_lost_the_lease_appends_and_orders_nothing(small: System) -> None:
    stale = await frozen(small)
    new = new_server()
    await small.commands.create_servers([new], context())
    await small.until(lambda: new.id in stale._running)
    async with another(small) as second:
        thaw(second)
        server = await small.settled(new.id)
        stale.term._confirmed = 0.0  # a long stop has passed
        position = await small.log.last_position()
        thaw(stale)
        await asyncio.gather(*stale._tasks)
        with pytest.raises(LeaseLost):
            await stale.orders.send(destroy_order(server, "late", server.host or "", server.generation + 1))
        with pytest.raises(LeaseLost):
            await stale.commands.create("blob", {"text": "late"}, context(), id=str(uuid4()))
        assert await small.log.last_position() == position


async def test_a_lease_that_is_given_up_is_taken_at_once_and_one_whose_holder_ended_too(small: System) -> None:
    first = small.conductor.term.number
    seeker = LeaseSeeker(small.log, small.commands, "another", lambda name: name == "this test")
    term = await seeker.acquire()
    assert (term.number, term.contested) == (first + 1, False)
    await term.give_up()
    assert (await lease_of(small)).holder == ""
    third = await LeaseSeeker(small.log, small.commands, "a third", lambda _: False).acquire()
    assert (third.number, third.contested) == (first + 3, False)


async def test_of_many_who_want_the_lease_one_gets_it(small: System) -> None:
    await small.conductor.stop()
    await small.conductor.term.give_up()
    seekers = [LeaseSeeker(small.log, small.commands, f"seeker {number}", lambda _: False) for number in range(8)]
    terms = [await one for one in asyncio.as_completed([seeker._attempt() for seeker in seekers])]
    assert sum(term is not None for term in terms) == 1


async def test_who_stops_ends_its_work_and_gives_the_lease_up_also_when_reports_can_not_be_drained(
    small: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "DRAIN_SECONDS", 0.5)
    await small.conductor.stop()
    await small.conductor.term.give_up()
    duty = Duty(small.log, small.commands, small.read, small.settings, small.watch, me="duty", is_gone=lambda _: False)
    await small.until(lambda: duty.conductor is not None and isinstance(duty.conductor.failed, asyncio.Task))
    conductor = duty.conductor
    assert conductor is not None
    for _ in range(reports.MAX_CONCURRENT_REPORTS):
        await conductor.reports._slots.acquire()
    for _ in range(2):
        await small.log.js.publish("reports.host-1.inventory", b"waits for a slot")
    subscription = conductor.reports._subscription
    assert subscription is not None
    await small.until(lambda: subscription.pending_msgs > 0)
    await duty.stop()
    assert conductor._follower is not None
    assert conductor._follower.failed.done()
    assert (await lease_of(small)).holder == ""


# --- as processes ---------------------------------------------------------------------------------------------------


class Processes:
    """`chronova conductor`, twice, each with a data directory of its own, as on two machines."""

    def __init__(self, system: System, directory: Path) -> None:
        self._system = system
        self._directory = directory
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        data = self._directory / f"conductor-{len(self.all)}"
        database = f"sqlite:///{self._directory / 'read.db'}"
        command = [sys.executable, "-P", "-m", "cli.main", "conductor", "--nats", self._system.url]
        with (self._directory / f"{data.name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--data", str(data), "--database", database],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.all.append(process)
        return process

    async def holder(self, *, not_: subprocess.Popen[bytes] | None = None) -> subprocess.Popen[bytes]:
        """The process that conducts, once it is one of these and not that one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                holder = (await lease_of(self._system)).holder
                for process in self.all:
                    if process is not not_ and f"/{process.pid}/" in holder:
                        return process
                await asyncio.sleep(0.05)

    def end(self) -> None:
        for process in self.all:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(60)


@pytest.fixture
async def two(small: System, tmp_path: Path) -> AsyncIterator[Processes]:
    """Two processes; the conductor of this one has made way."""
    await small.conductor.stop()
    await small.conductor.term.give_up()
    processes = Processes(small, tmp_path)
    try:
        processes.start()
        await processes.holder()
        processes.start()
        yield processes
    finally:
        processes.end()


async def settled(system: System, ids: list[str]) -> list[Server]:
    servers = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        for id_ in ids:
            while (server := await system.server(id_)).operation is not None:
                await asyncio.sleep(0.05)
            servers.append(server)
    return servers


async def test_the_standby_goes_on_when_the_holder_is_killed(small: System, two: Processes) -> None:
    holder = await two.holder()
    new = [new_server(f"web-{number}") for number in range(2 * PER_HOST)]
    await asyncio.gather(*(small.commands.create_servers([one], context()) for one in new))
    holder.kill()
    servers = await settled(small, [one.id for one in new])
    assert {server.vm_state for server in servers} == {"active"}
    assert await two.holder(not_=holder) is not holder
    await assert_never_overcommitted(small)
    await assert_ports_fit(small, servers)


async def test_a_holder_that_is_stopped_and_goes_on_doubles_nothing(small: System, two: Processes) -> None:
    """Stopped in the middle of more builds than there is room for, twice, with builds waiting on both sides."""
    ids = []
    for turn in range(2):
        holder = await two.holder()
        new = [new_server(f"web-{turn}-{number}") for number in range(PER_HOST + 1)]
        ids += [one.id for one in new]
        working = asyncio.gather(*(small.commands.create_servers([one], context()) for one in new))
        await asyncio.sleep(0.01 * turn)
        holder.send_signal(signal.SIGSTOP)
        await working
        await two.holder(not_=holder)
        late = new_server(f"late-{turn}")
        ids.append(late.id)
        await small.commands.create_servers([late], context())
        await settled(small, ids)
        holder.send_signal(signal.SIGCONT)
    servers = await settled(small, ids)
    assert sum(server.vm_state == "active" for server in servers) == 2 * PER_HOST
    assert {server.vm_state for server in servers} == {"active", "error"}
    await assert_never_overcommitted(small)
    await assert_ports_fit(small, servers)
    for server in servers:
        types = await small.event_types(server.id)
        assert sum(one in ("server.create.succeeded", "server.create.failed") for one in types) == 1, types


def test_a_process_is_known_to_have_ended_only_when_it_could_be_seen(tmp_path: Path) -> None:
    mine = process_name.name()
    assert not process_name.has_ended(mine)
    host, boot, place, pid, started = mine.split("/")
    assert process_name.has_ended("/".join((host, boot, place, pid, str(int(started) + 1))))
    assert not process_name.has_ended("/".join((host, "another boot", place, pid, "1")))
    assert not process_name.has_ended("/".join((host, boot, "another namespace", pid, "1")))
    assert not process_name.has_ended("")
