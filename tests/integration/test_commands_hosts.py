"""Hosts register by what their agents tell: many at once, each once, and who is silent is known without asking each."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import msgspec

from commands.conductor import host_id
from commands.hosts import HostWatch
from commands.streams import REPORTS
from domain.orders import HostInventory
from domain.resources import Host
from eventlog.nats_server import EmbeddedNats
from tests.system import ADMIN, WAIT_SECONDS, System, context

NEVER = 3600.0
NAMES = tuple(f"host-{number}" for number in range(40))
_encode = msgspec.json.Encoder().encode


def inventory(host: str, memory_mb: int = 4096, capabilities: tuple[str, ...] = ()) -> bytes:
    told = HostInventory(host, "simulated", "simulated", 1, vcpus=4, memory_mb=memory_mb, disk_gb=40)
    return _encode(msgspec.structs.replace(told, capabilities=capabilities))


async def settled(system: System) -> None:
    """Wait until no report is left that could come once more."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (await system.log.js.stream_info(REPORTS)).state.messages:
            await asyncio.sleep(0.01)


async def test_hosts_that_come_at_once_are_registered_once_each(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, hosts=()) as system:
        told = [(f"reports.{name}.inventory", inventory(name)) for name in NAMES]
        await asyncio.gather(*(system.log.js.publish(*one) for one in (*told, *told)))  # a report may come twice
        await system.until(lambda: set(NAMES) <= set(system.conductor.capacity.hosts))
        await settled(system)
        await system.log.js.publish("reports.host-0.inventory", inventory("host-0", memory_mb=8192))
        await system.until(lambda: system.conductor.capacity.hosts["host-0"].memory_mb == 8192)
        hosts = [cast(Host, await system.commands.load("host", host_id(name))) for name in NAMES]
        assert sorted(one.number for one in hosts) == list(range(1, len(NAMES) + 1))
        commits = [len(await system.log.read("host", one.id)) for one in hosts]
        assert commits == [2, *[1] * (len(NAMES) - 1)]


async def test_the_silent_hosts_are_those_that_are_not_up(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, hosts=()) as system:
        watch = HostWatch(system.log, down_after=NEVER)
        await watch.start()

        async def beat(host: str) -> None:
            await system.log.nc.publish(f"heartbeat.{host}", b"")
            await system.until(lambda: watch.heard_once(host))

        def silent() -> list[str]:
            watch.down_after = 0.0
            found = list(watch.silent())
            assert not any(watch.is_up(host) for host in found)
            watch.down_after = NEVER
            assert not list(watch.silent())
            return found

        watch.expect("expected")
        assert silent() == ["expected"]
        await beat("once")
        assert silent() == ["expected", "once"]
        await beat("expected")
        for host in ("expected", "late"):
            watch.expect(host)
        assert silent() == ["late", "once", "expected"]
        assert watch.snapshot().keys() == {"once", "expected"}
        assert not watch.heard_once("late")
        await watch.stop()


async def test_what_the_log_says_of_hosts_counts_at_once_and_after_a_start(
    own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with System.open(own_nats, tmp_path, hosts=()) as system:
        told = inventory("host-0", capabilities=("power_on", "power_off"))
        await system.log.js.publish("reports.host-0.inventory", told)
        await system.until(lambda: "power_on" not in system.watch.lacks("host-0") and system.watch.lacks("host-0"))
        assert "snapshot" in system.watch.lacks("host-0")
        assert system.watch.is_up("host-0")
        await system.commands.update("host", host_id("host-0"), {"forced_down": True}, context(ADMIN))
        await system.until(lambda: not system.watch.is_up("host-0"))
        assert system.watch.answers("host-0")
        started_later = HostWatch(system.log, down_after=NEVER)
        await started_later.start()
        assert not started_later.is_up("host-0")
        assert "snapshot" in started_later.lacks("host-0")
        assert not started_later.lacks("unknown")
        await system.commands.update("host", host_id("host-0"), {"forced_down": False}, context(ADMIN))
        await system.until(lambda: system.watch.is_up("host-0") and started_later.is_up("host-0"))
        await started_later.stop()
