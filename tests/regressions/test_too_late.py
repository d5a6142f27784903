"""What a step took for a server after its operation had been ended is freed though its conductor died with it.

What such a conductor leaves in the log is written here as its steps write it. Every step of every workflow that takes
something: `tests.faults.test_workflow_trio`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from commands.context import SERVICE, CommandContext
from commands.networking import allocate_port
from domain.resources import Port
from domain.server import Server
from tests.eventlog_samples import new_id
from tests.system import System, context, new_server

GONE = "gone"


def of_a_step(server: Server) -> CommandContext:
    """As `commands.steps` gives it."""
    return CommandContext(SERVICE, f"req-{new_id()}", causation_id=f"server:{server.id}:{server.version}")


async def port(system: System, given: CommandContext, device_id: str = "") -> str:
    made = await allocate_port(
        system.commands,
        system.read,
        network_id=system.network_id,
        context=given,
        project_id="demo",
        device_id=device_id,
        device_owner="compute:nova" if device_id else "",
    )
    return made.id


async def bind(system: System, port_id: str, device_id: str, given: CommandContext) -> str:
    bound = {"device_id": device_id, "device_owner": "compute:nova", "binding_host": "host-1"}
    await system.commands.update("port", port_id, bound, given, verb="bind")
    return port_id


async def device(system: System, port_id: str) -> str:
    found = await system.commands.load("port", port_id)
    return GONE if found is None else cast(Port, found).device_id


async def look(system: System) -> None:
    await system.quiet()
    await system.conductor.sweep.too_late.look(datetime.now(UTC))


async def test_a_port_that_came_after_its_server_was_deleted(system: System) -> None:
    server = await system.create()
    await system.do("delete", server.id)
    made = await port(system, of_a_step(server), server.id)
    bound = await bind(system, await port(system, context()), server.id, of_a_step(server))
    written = await port(system, context(), server.id)
    await look(system)
    assert [await device(system, one) for one in (made, bound, written)] == [GONE, "", server.id]


async def test_a_port_that_came_after_its_attach_was_ended(system: System) -> None:
    server = await system.create()
    made = await port(system, of_a_step(server), server.id)
    written = await port(system, context(), server.id)
    await look(system)
    own = server.interfaces[0].port_id
    assert [await device(system, one) for one in (own, made, written)] == [server.id, GONE, server.id]
    assert await system.server(server.id) == server


async def test_what_may_be_of_a_build_that_goes_on_is_left_to_it(system: System) -> None:
    new = new_server("web-hang-spawn")
    await system.commands.create_servers([new], context())
    server = await system.when(new.id, lambda now: now.operation is not None and now.operation.step == "spawn")
    made = await port(system, of_a_step(server), server.id)
    await look(system)
    assert await device(system, made) == server.id
    await system.do("delete", server.id)
    await look(system)
    assert await device(system, made) == GONE
