"""Filter orders as the conductor sends them: when something changes for a host that filters, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.errors import NotFoundError

from commands.filters import FilterBook
from commands.lease import LeaseLost
from commands.streams import ORDERS, ensure_host_consumer
from domain.errors import Unavailable
from domain.filters import KIND, HostFilters
from domain.resources import Host
from eventlog.nats_server import EmbeddedNats
from tests.system import ADMIN, WAIT_SECONDS, System, context

HOST = "filtering"
SUBJECT = f"orders.{HOST}.{KIND}"
_RULE = {"id": "r", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp"}


async def newest(system: System, subject: str = SUBJECT) -> HostFilters | None:
    try:
        message = await system.log.js.get_last_msg(ORDERS, subject)
    except NotFoundError:
        return None
    return msgspec.json.decode(message.data or b"", type=HostFilters)


async def sent(system: System) -> int:
    info = await system.log.js.stream_info(ORDERS, subjects_filter=SUBJECT)
    return (info.state.subjects or {}).get(SUBJECT, 0)


async def told(system: System, holds: Callable[[HostFilters], Any]) -> HostFilters:
    """The newest order, once `holds` says that it is the awaited one."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            order = await newest(system)
            if order is not None and holds(order):
                return order
            await asyncio.sleep(0.02)


async def make(system: System, kind: str, **fields: Any) -> Any:
    return await system.commands.create(kind, fields, context(ADMIN))


async def host(system: System, name: str, *capabilities: str) -> None:
    await make(system, "host", name=name, driver="libvirt", capabilities=capabilities, number=1)


async def bound(system: System, number: int, *groups: str) -> Any:
    fields = {"mac": f"fa:16:3e:00:00:0{number}", "binding_host": HOST, "security_groups": groups}
    return await make(system, "port", network_id=system.network_id, project_id="demo", **fields)


@pytest.fixture
async def without_agents(own_nats: EmbeddedNats, tmp_path: Path) -> AsyncIterator[System]:
    async with System.open(own_nats, tmp_path, hosts=()) as opened:
        yield opened


async def test_a_host_that_filters_is_told_what_changes_for_it(without_agents: System) -> None:
    system = without_agents
    group = await make(system, "security_group", name="web", project_id="demo", rules=[_RULE])
    port = await bound(system, 1, group.id)
    await host(system, "another", "spawn")
    await host(system, HOST, "spawn", KIND)
    first = await told(system, lambda order: order.ports)
    assert [one.port_id for one in first.ports] == [port.id]
    assert [one.protocol for one in first.groups[0].rules] == [6]
    assert await newest(system, f"orders.another.{KIND}") is None
    before = await sent(system)
    await make(system, "network", name="unrelated")
    await bound(system, 2, group.id)
    second = await told(system, lambda order: len(order.ports) == 2)
    assert second.position > first.position
    assert await sent(system) == before + 1
    await system.commands.update("security_group", group.id, {"rules": []}, context(ADMIN))
    await told(system, lambda order: not order.groups[0].rules)
    await system.commands.delete("port", port.id, context(ADMIN))
    last = await told(system, lambda order: len(order.ports) == 1)
    before = await sent(system)
    await system.stop_conductor()
    await system.start_conductor()
    again = await told(system, lambda order: order.position > last.position)
    assert msgspec.structs.replace(again, position=last.position) == last
    assert await sent(system) == before + 1


async def test_filters_wait_for_a_log_that_does_not_say_who_conducts_and_end_with_the_term(
    without_agents: System,
) -> None:
    system = without_agents
    said: list[Exception] = [Unavailable("The event log does not say who conducts")]

    async def assure() -> None:
        if said:
            raise said.pop()

    book = FilterBook(system.log, assure)
    book.apply_host(Host(id="1", name=HOST, capabilities=(KIND,)))
    task = book.start()
    try:
        order = await told(system, lambda order: order.host == HOST)
        assert not said
        assert not task.done()
        said.append(LeaseLost("term 1 is over"))
        book.apply_host(Host(id="2", name="another", capabilities=(KIND,)))
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.wait([task])
        assert isinstance(task.exception(), LeaseLost)
        assert await newest(system) == order
        assert await newest(system, f"orders.another.{KIND}") is None
    finally:
        await book.stop()


async def test_a_conductor_ends_when_its_filters_do(without_agents: System) -> None:
    async def broken() -> None:
        raise RuntimeError("a defect")

    without_agents.conductor.filters._assure = broken
    await host(without_agents, HOST, KIND)
    with pytest.raises(RuntimeError, match="a defect"):
        async with asyncio.timeout(WAIT_SECONDS):
            await without_agents.conductor.failed


async def test_a_host_without_a_network_takes_an_order_and_goes_on(system: System) -> None:
    await ensure_host_consumer(system.log.js, "host-1")
    await system.log.js.publish(f"orders.host-1.{KIND}", msgspec.json.encode(HostFilters("host-1", 1)))
    server = await system.create(forced_host="host-1")
    assert server.vm_state == "active"
    info = await system.log.js.consumer_info(ORDERS, "host-1")
    assert info.num_pending == 0
