"""Consoles over NATS, with the agent's own account: a socket that answers stands where a guest's console would be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from commands.consoles import ConsoleEnded, ConsoleLine
from eventlog.nats_server import EmbeddedNats
from hypervisor_agent import consoles
from hypervisor_agent.consoles import Consoles
from hypervisor_agent.driver import ConsoleAddress, OrderFailed
from hypervisor_agent.link import Link, NatsAccess
from hypervisor_agent.simulated import SimulatedDriver
from tests.agent_fixtures import HOST, PASSWORD, ControlPlane, server_id
from tests.eventlog_samples import until_it_listens


class Echo(SimulatedDriver):
    """A host whose guests all have one console, which repeats what is typed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(HOST, folder, {"persist": False})
        self.socket = folder / "console"
        self.clients: list[asyncio.StreamWriter] = []
        self.refusal: OrderFailed | None = None

    async def listen(self) -> asyncio.Server:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.clients.append(writer)
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        return await asyncio.start_unix_server(echo, self.socket)

    async def console_address(self, server_id: str, kind: Any) -> ConsoleAddress:
        await asyncio.sleep(0)  # as libvirt is asked: others run meanwhile
        if self.refusal is not None:
            raise self.refusal
        return "unix", str(self.socket)


class Lines:
    """Opens sessions at the agent and takes them up as the API does."""

    def __init__(self, agent: Consoles, driver: Echo, plane: ControlPlane) -> None:
        self.agent = agent
        self.driver = driver
        self._nc = plane.client

    async def open(self, server: str, kind: Any, token: str) -> ConsoleLine:
        told = await self.agent.open(server, kind, token, time.time(), time.time() + 60)
        return ConsoleLine(self._nc, f"agent.{HOST}.console.{told['session']}")


@pytest.fixture
async def lines(
    agent_nats: EmbeddedNats, control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lines]:
    monkeypatch.setattr(consoles, "HOLD_SECONDS", 0.2)
    driver = Echo(tmp_path)
    link = Link(NatsAccess([agent_nats.url], HOST, HOST, PASSWORD))
    await link.open()
    agent = Consoles(HOST, driver, link)
    async with await driver.listen():
        await agent.start()
        await until_it_listens(link.client)
        yield Lines(agent, driver, control_plane)
        await agent.stop()
    await link.close()


async def everything(line: ConsoleLine, size: int) -> bytes:
    said = b""
    async with asyncio.timeout(60):
        while len(said) < size:
            said += await line.read()
    return said


async def test_what_is_typed_arrives_whole_and_in_order(lines: Lines) -> None:
    line = await lines.open(server_id(), "vnc", "one")
    typed = bytes(range(256)) * 8192
    writing = asyncio.create_task(line.write(typed))
    assert await everything(line, len(typed)) == typed
    await writing
    assert await line.read() == b""
    await line.close()
    with pytest.raises(ConsoleEnded, match="open a new one"):
        await line.read()


async def test_a_token_opens_one_console(lines: Lines) -> None:
    await lines.open(server_id(), "vnc", "one")
    with pytest.raises(OrderFailed, match="used already"):
        await lines.open(server_id(), "vnc", "one")
    with pytest.raises(OrderFailed, match="started anew"):
        await lines.agent.open(server_id(), "vnc", "of before", 0.0, time.time() + 60)


async def test_a_token_opens_one_console_when_it_is_used_twice_at_once(lines: Lines) -> None:
    server = server_id()
    both = await asyncio.gather(*(lines.open(server, "vnc", "one") for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in both] == [ConsoleLine, OrderFailed]
    assert "used already" in str(both[1])


async def test_a_token_that_was_refused_a_console_is_still_good(lines: Lines) -> None:
    lines.driver.refusal = OrderFailed("no_console", "It is off.")
    with pytest.raises(OrderFailed, match="It is off"):
        await lines.open(server_id(), "vnc", "one")
    lines.driver.refusal = None
    await lines.open(server_id(), "vnc", "one")


async def test_a_serial_port_has_one_reader_and_a_screen_has_many(lines: Lines) -> None:
    server = server_id()
    first, second = await lines.open(server, "serial", "1"), await lines.open(server, "serial", "2")
    with pytest.raises(ConsoleEnded, match="opened elsewhere"):
        await first.read()
    await second.write(b"still here")
    assert await everything(second, 10) == b"still here"
    screens = [await lines.open(server, "vnc", str(number)) for number in (3, 4)]
    for screen in screens:
        await screen.write(b"both")
        assert await everything(screen, 4) == b"both"


async def test_a_guest_that_goes_ends_its_console_and_says_so(lines: Lines) -> None:
    line = await lines.open(server_id(), "vnc", "one")
    await line.write(b"x")
    await everything(line, 1)
    for client in lines.driver.clients:
        client.close()
    with pytest.raises(ConsoleEnded, match="switched off"):
        await everything(line, 1)
    with pytest.raises(ConsoleEnded, match="switched off"):
        await line.write(b"anybody there?")
