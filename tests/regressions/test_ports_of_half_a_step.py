"""A build that got one port and not the next, or that was deleted while it got them, keeps none of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from commands.left_ports import build_port_id
from commands.networking import allocate_port, release_port
from domain.errors import Unavailable
from domain.resources import decode
from domain.server import NetworkRequest
from tests.eventlog_samples import new_id
from tests.system import ADMIN, WAIT_SECONDS, System, context, new_server


async def leftovers(system: System) -> tuple[int, int]:
    """Living ports but the one that was there, and addresses taken but its."""
    ports: list[Any] = [decode("port", one.commit.state) async for one in system.log.scan_last("port")]
    addresses: list[Any] = [decode("address", one.commit.state) async for one in system.log.scan_last("address")]
    return sum(not one.deleted for one in ports), sum(one.port_id is not None for one in addresses)


async def test_a_second_port_that_can_not_be_had_gives_the_first_back(system: System) -> None:
    fields = {"network_id": system.network_id, "mac": "fa:16:3e:00:00:01", "device_id": "someone else"}
    taken = await system.commands.create("port", fields, context(ADMIN))
    requests = (NetworkRequest(network_id=system.network_id), NetworkRequest(port_id=taken.id))
    server = await system.create(networks=requests)
    assert server.vm_state == "error"
    assert await leftovers(system) == (1, 0)


async def test_a_port_whose_creation_was_not_answered_keeps_its_addresses(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = system.commands.create

    async def unheard(kind: str, *args: Any, **fields: Any) -> Any:
        made = await create(kind, *args, **fields)
        if kind == "port":
            raise Unavailable("The event log does not answer")
        return made

    with monkeypatch.context() as patched:
        patched.setattr(system.commands, "create", unheard)
        with pytest.raises(Unavailable):
            await allocate_port(
                system.commands, system.read, network_id=system.network_id, context=context(ADMIN), port_id=new_id()
            )
    assert await leftovers(system) == (1, 1)


async def test_a_server_deleted_while_it_gets_its_ports_keeps_none(system: System) -> None:
    new = [new_server(f"short-{number}") for number in range(6)]

    async def brief(one: Any) -> None:
        await system.commands.create_servers([one], context())
        await system.when(one.id, lambda now: now.operation is None or now.operation.step == "create_ports")
        await system.do("delete", one.id)

    await asyncio.gather(*map(brief, new))
    async with asyncio.timeout(WAIT_SECONDS):
        while await leftovers(system) != (0, 0):
            await asyncio.sleep(0.05)


async def test_ports_of_a_build_whose_conductor_was_killed_go_with_the_server(system: System) -> None:
    """The ports are there, no commit of the server says so, and the server is deleted before a conductor is back."""
    await system.stop_conductor()
    new = new_server(networks=(NetworkRequest(network_id=system.network_id),))
    await system.commands.create_servers([new], context())
    server = await system.server(new.id)
    await allocate_port(
        system.commands,
        system.read,
        network_id=system.network_id,
        context=context(ADMIN),
        port_id=build_port_id(server, 1, 0),
        device_id=server.id,
    )
    assert await leftovers(system) == (1, 1)
    await system.commands.server("delete", new.id, {}, context())
    await system.start_conductor()
    assert (await system.settled(new.id)).vm_state == "deleted"
    assert await leftovers(system) == (0, 0)


async def test_a_port_that_two_give_back_at_once_is_given_back(system: System) -> None:
    port = await allocate_port(
        system.commands, system.read, network_id=system.network_id, context=context(ADMIN), port_id=new_id()
    )
    await asyncio.gather(*(release_port(system.commands, port.id, context(ADMIN)) for _ in range(8)))
    assert await leftovers(system) == (0, 0)
