"""A whole system in one process, for tests: real NATS, real read models, the conductor, simulated hosts.

`System.open` composes the rooms as `chronova up` does, without HTTP. `restart_conductor` and `restart_agents` replace a
part while the rest goes on.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from commands.conductor import Conductor
from commands.context import CommandContext
from commands.handler import Commands
from commands.hosts import HostWatch
from commands.lease import LeaseSeeker
from commands.settings import CommandSettings
from commands.streams import ensure_streams
from domain.decide import NewServer
from domain.server import FlavorSnapshot, Server
from eventlog.envelope import Actor
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats
from hypervisor_agent.link import NatsAccess
from hypervisor_agent.process import AgentSettings, serve
from projections.projector import Projector
from projections.read_model import ReadModel

MEMBER = Actor(user_id="alice", user_name="alice", project_id="demo", roles=("member",))
ADMIN = Actor(user_id="root", user_name="root", project_id="admin", roles=("admin",))
READER = Actor(user_id="rita", user_name="rita", project_id="demo", roles=("reader",))
STRANGER = Actor(user_id="eve", user_name="eve", project_id="other", roles=("member",))
FLAVOR = FlavorSnapshot(id="1", name="m1.nano", vcpus=1, ram=96, disk=1)
WAIT_SECONDS = 60.0


def context(actor: Actor = MEMBER, **fields: Any) -> CommandContext:
    return CommandContext(actor, f"req-{uuid4()}", **fields)


def new_server(name: str = "web", **fields: Any) -> NewServer:
    given: dict[str, Any] = {
        "id": str(uuid4()),
        "name": name,
        "project_id": "demo",
        "user_id": "alice",
        "flavor": FLAVOR,
        "hostname": name,
        "instance_name": "instance-1",
        "reservation_id": "r-1",
        "image_id": "image-1",
    }
    return NewServer(**(given | fields))


@dataclass
class System:
    directory: Path
    url: str
    log: EventLog
    read: ReadModel
    projector: Projector
    watch: HostWatch
    settings: CommandSettings
    commands: Commands
    conductor: Conductor
    network_id: str = ""
    driver_options: dict[str, Any] = field(default_factory=dict)
    hosts: tuple[str, ...] = ("host-1", "host-2")
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _agents: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        nats: EmbeddedNats,
        directory: Path,
        *,
        driver_options: dict[str, Any] | None = None,
        hosts: tuple[str, ...] = ("host-1", "host-2"),
        **settings_given: Any,
    ) -> AsyncIterator[System]:
        log = await EventLog.open(nats.url)
        await ensure_streams(log.js)
        url = f"sqlite:///{directory / 'read.db'}"
        projector = await Projector.start(log, url)
        read = await ReadModel.open(url, nats=log.nc)
        patience: dict[str, Any] = {"visible_timeout": WAIT_SECONDS, "host_down_after": WAIT_SECONDS}
        settings = CommandSettings(
            images_dir=directory / "images", volumes_dir=directory / "volumes", **patience | settings_given
        )
        settings.images_dir.mkdir(exist_ok=True)
        watch = HostWatch(log, settings.host_down_after)
        await watch.start()

        async def visible(position: int) -> None:
            await read.shown(position, settings.visible_timeout)

        commands = Commands(log, visible=visible, settings=settings, hosts=watch)
        term = await LeaseSeeker(log, commands, "this test", lambda _: False).acquire()
        conductor = Conductor(log, commands, read, settings, watch, term)
        await conductor.start()
        system = cls(directory, nats.url, log, read, projector, watch, settings, commands, conductor)
        system.driver_options, system.hosts = driver_options or {}, hosts
        network = await commands.create("network", {"name": "private", "shared": True}, context(ADMIN))
        await commands.create(
            "subnet", {"network_id": network.id, "cidr": "10.9.0.0/24", "gateway_ip": "10.9.0.1"}, context(ADMIN)
        )
        system.network_id = network.id
        try:
            # A test with a short `visible_timeout` finds the network, too.
            assert await read.wait_for(await log.last_position(), WAIT_SECONDS)
            if hosts:
                await system.start_agents()
            yield system
        finally:
            await system.stop_agents()
            await system.conductor.stop()
            await watch.stop()
            await system.projector.stop()
            await read.close()
            await log.close()
            await asyncio.sleep(0.05)  # closed sockets are let go by the loop one turn later

    async def start_agents(self) -> None:
        self.watch.down_after = self.settings.host_down_after
        self._stop = asyncio.Event()
        access = NatsAccess([self.url], "agents")
        given = AgentSettings(self.hosts, "simulated", self.directory / "hosts", access, self.driver_options)
        self._agents = asyncio.create_task(serve(given, self._stop))
        await self.until(lambda: all(self.watch.heard_once(host) for host in self.hosts))
        await self.until(lambda: set(self.hosts) <= set(self.conductor.capacity.hosts))

    async def stop_agents(self) -> None:
        if self._agents is not None:
            self._stop.set()
            await asyncio.gather(self._agents)
            self._agents = None

    async def hosts_fall_silent(self) -> None:
        """The agents are away for longer than a host may be silent, until they are started again."""
        self.watch.down_after = 0.0
        await self.stop_agents()

    def set(self, **changes: Any) -> None:
        """Other settings of the commands that are given from now on."""
        self.commands.settings = dataclasses.replace(self.commands.settings, **changes)

    async def quiet(self) -> None:
        """Wait until the conductor has done what follows from the log by itself, and the read models show all of it."""
        while True:
            position = await self.log.last_position()
            assert await self.read.wait_for(position, WAIT_SECONDS), f"{self.read.position} of {position}"
            await self.until(partial(self._conductor_is_at, position))
            await self.until(lambda: not self.conductor._tasks)
            if await self.log.last_position() == position:
                return

    def _conductor_is_at(self, position: int) -> bool:
        follower = self.conductor._follower
        return follower is None or follower.failed.done() or follower.position >= position

    async def stop_conductor(self) -> None:
        await self.conductor.stop()

    async def start_conductor(self) -> None:
        term = await LeaseSeeker(self.log, self.commands, "this test", lambda _: False).acquire()
        self.conductor = Conductor(self.log, self.commands, self.read, self.settings, self.watch, term)
        await self.conductor.start()

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not holds():
                await asyncio.sleep(0.01)

    async def server(self, server_id: str) -> Server:
        server = await self.commands.load_server(server_id)
        assert server is not None
        return server

    async def when(self, server_id: str, holds: Callable[[Server], Any]) -> Server:
        """The server as soon as `holds` says so; fails with its state when that does not happen."""
        server = await self.server(server_id)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not holds(server):
                    await asyncio.sleep(0.01)
                    server = await self.server(server_id)
        except TimeoutError as error:
            raise AssertionError(f"still {server}") from error
        return server

    async def settled(self, server_id: str) -> Server:
        """The server as it settled. The read model shows that, too, if it follows the log."""
        server = await self.when(server_id, lambda server: server.operation is None)
        newest = await self.log.last("server", server_id)
        if newest is not None and not self.projector.failed.done():
            await self.read.wait_for(newest.position, WAIT_SECONDS)
        return server

    async def create(self, name: str = "web", **fields: Any) -> Server:
        """A server, as its creation settled."""
        new = new_server(name, **fields)
        await self.commands.create_servers([new], context())
        return await self.settled(new.id)

    async def do(self, command: str, server_id: str, params: dict[str, Any] | None = None, **fields: Any) -> Server:
        """Give a command and wait until it has ended."""
        await self.commands.server(command, server_id, params or {}, context(**fields))
        return await self.settled(server_id)

    async def event_types(self, server_id: str) -> list[str]:
        commits = await self.log.read("server", server_id)
        return [event.type for one in commits for event in one.commit.events]


@pytest.fixture
def own_nats(tmp_path: Path) -> Any:
    """A nats-server of this test alone: the log's stream has its production name."""
    with EmbeddedNats.start(tmp_path / "nats", sync_interval=None) as server:
        yield server


@pytest.fixture
async def system(own_nats: EmbeddedNats, tmp_path: Path) -> AsyncIterator[System]:
    async with System.open(own_nats, tmp_path) as opened:
        yield opened
