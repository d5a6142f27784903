"""An address that was claimed for a port that never came is free again; a slow call that lives loses it cleanly or not.

A port takes its addresses before it is recorded; its process may be killed in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from commands.networking import address_id, allocate_port, change_addresses, take_back
from domain.errors import Conflict, Unavailable
from domain.resources import Address, Port
from eventlog.nats_server import EmbeddedNats
from tests.eventlog_samples import new_id
from tests.system import ADMIN, WAIT_SECONDS, System, context


def wanted(address: str) -> list[dict[str, str]]:
    return [{"ip_address": address}]


async def port_with(system: System, address: str) -> Port:
    return await allocate_port(
        system.commands,
        system.read,
        network_id=system.network_id,
        context=context(ADMIN),
        fixed_ips=wanted(address),
        project_id="demo",
    )


async def subnet_of(system: System) -> str:
    await shown(system)
    [subnet] = await system.read.resources("subnet", where={"network_id": system.network_id})
    return subnet.id


async def claim(system: System, address: str, port_id: str) -> str:
    """All that a process leaves in the log which is killed between its claim and its port. The port's id."""
    subnet_id = await subnet_of(system)
    fields = {"name": address, "subnet_id": subnet_id, "address": address, "port_id": port_id}
    await system.commands.create(
        "address", fields, context(ADMIN), id=address_id(subnet_id, address), verb="allocate", visible=False
    )
    return port_id


async def claimed(system: System, address: str) -> Address:
    return cast(Address, await system.commands.load("address", address_id(await subnet_of(system), address)))


async def holder(system: System, address: str) -> str | None:
    return (await claimed(system, address)).port_id


async def shown(system: System) -> None:
    """What is in the log is in the read models, from which the sweep learns what to look at."""
    assert await system.read.wait_for(await system.log.last_position(), WAIT_SECONDS)


class Held:
    """A change of ports that waits, when it has its addresses, until it is let go."""

    def __init__(self, system: System, verb: str, patch: pytest.MonkeyPatch) -> None:
        self.there, self.go = asyncio.Event(), asyncio.Event()
        self._change: Callable[..., Any] = getattr(system.commands, verb)
        patch.setattr(system.commands, verb, self._slowly)

    async def _slowly(self, kind: str, *args: Any, **fields: Any) -> Any:
        if kind == "port" and not self.there.is_set():
            self.there.set()
            await self.go.wait()
        return await self._change(kind, *args, **fields)

    async def until_there(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await self.there.wait()


async def test_an_address_whose_claimer_died_is_free_again(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, hosts=(), unclaimed_seconds=0.5) as system:
        await system.stop_conductor()
        lost = await claim(system, "10.9.0.77", new_id())
        with pytest.raises(Conflict, match="already allocated"):
            await port_with(system, "10.9.0.77")
        await system.start_conductor()
        async with asyncio.timeout(WAIT_SECONDS):
            while await holder(system, "10.9.0.77") is not None:
                await asyncio.sleep(0.05)
        await system.stop_conductor()  # it would take what is not put to use within half a second
        assert await system.commands.load("port", lost) is None
        port = await port_with(system, "10.9.0.77")
        await system.start_conductor()
        assert await holder(system, "10.9.0.77") == port.id


@pytest.fixture
def sweep(system: System) -> Callable[[], Any]:
    """A look at everything, as if it had lasted long since it was claimed."""

    async def look() -> None:
        await shown(system)
        for address in await system.read.addresses_without_port(datetime.now(UTC)):
            await take_back(system.commands, address, context(ADMIN))

    return look


async def test_a_slow_port_whose_address_was_given_back_is_refused(
    system: System, sweep: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Held(system, "create", monkeypatch)
    port_id = new_id()
    make = partial(
        allocate_port, system.commands, system.read, network_id=system.network_id, port_id=port_id, project_id="demo"
    )
    making = asyncio.create_task(make(fixed_ips=wanted("10.9.0.77"), context=context(ADMIN)))
    await slow.until_there()
    assert await holder(system, "10.9.0.77") == port_id
    await sweep()
    other = await port_with(system, "10.9.0.77")
    slow.go.set()
    with pytest.raises(Unavailable, match="taken back"):
        await making
    assert await system.commands.load("port", port_id) is None
    assert await holder(system, "10.9.0.77") == other.id
    again = await make(fixed_ips=wanted("10.9.0.78"), context=context(ADMIN))
    assert (again.id, await holder(system, "10.9.0.78")) == (port_id, port_id)


async def test_a_slow_change_whose_address_was_given_back_is_refused(
    system: System, sweep: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await port_with(system, "10.9.0.70")
    slow = Held(system, "update", monkeypatch)
    both = wanted("10.9.0.70") + wanted("10.9.0.71")
    change = partial(change_addresses, system.commands, system.read, port, both)
    changing = asyncio.create_task(change(context(ADMIN)))
    await slow.until_there()
    await sweep()
    other = await port_with(system, "10.9.0.71")
    slow.go.set()
    with pytest.raises(Conflict, match="meanwhile"):
        await changing
    now = cast(Port, await system.commands.load("port", port.id))
    assert [ip.address for ip in now.fixed_ips] == ["10.9.0.70"]
    assert [await holder(system, one) for one in ("10.9.0.70", "10.9.0.71")] == [port.id, other.id]


async def test_what_a_port_has_or_gets_meanwhile_stays_its_own(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    had, seen = await port_with(system, "10.9.0.70"), await claimed(system, "10.9.0.70")
    assert not await take_back(system.commands, seen, context(ADMIN))
    assert await holder(system, "10.9.0.70") == had.id
    # Claimed by a call that died, seen by the sweep, and claimed again by a repeat before the sweep frees it.
    port_id = await claim(system, "10.9.0.77", new_id())
    update = system.commands.update

    async def repeat_first(kind: str, *args: Any, **given: Any) -> Any:
        if given.get("verb") == "release":
            monkeypatch.setattr(system.commands, "update", update)
            await allocate_port(
                system.commands,
                system.read,
                network_id=system.network_id,
                context=context(ADMIN),
                fixed_ips=wanted("10.9.0.77"),
                port_id=port_id,
                project_id="demo",
            )
        return await update(kind, *args, **given)

    monkeypatch.setattr(system.commands, "update", repeat_first)
    await take_back(system.commands, await claimed(system, "10.9.0.77"), context(ADMIN))
    port = cast(Port, await system.commands.load("port", port_id))
    assert [ip.address for ip in port.fixed_ips] == ["10.9.0.77"]
    assert await holder(system, "10.9.0.77") == port_id
