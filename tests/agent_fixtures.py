"""A control plane's end of the agent protocol, for tests: streams and consumers as the real one makes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import nats
import nats.errors
import pytest
from nats.aio.client import Client

from commands.streams import direct_reports, ensure_host_consumer, ensure_streams, reports_subject
from domain.orders import SEVERAL, GuestSpec, ImageSpec, Order, Report
from eventlog.nats_config import NatsUser, agent_user
from eventlog.nats_server import EmbeddedNats
from hypervisor_agent.link import NatsAccess
from hypervisor_agent.process import AgentSettings, serve

HOST = "host-1"
PASSWORD = "agent-secret"
WAIT_SECONDS = 60.0
TERM = 1


def order(kind: Any, server_id: str, number: int, *, generation: int | None = None, **fields: Any) -> Order:
    spec = GuestSpec(
        server_id=server_id,
        instance_name="instance-00000001",
        name=fields.pop("name", "web"),
        hostname="web",
        project_id="p",
        vcpus=1,
        memory_mb=64,
        disk_gb=1,
        image=ImageSpec("image", "/nowhere"),
    )
    generation = number if generation is None else generation
    return Order(str(number), kind, server_id, fields.pop("host", HOST), generation, spec, **fields)


@dataclass
class ControlPlane:
    """Publishes orders, collects reports."""

    url: str
    client: Client
    reports: list[Report] = field(default_factory=list)
    inventories: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, order: Order) -> None:
        """Publish an order until JetStream has it, once."""
        stream = self.client.jetstream(timeout=1.0)
        name = {"Nats-Msg-Id": uuid4().hex}
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    body = msgspec.json.encode(order)
                    await stream.publish(f"orders.{order.host}.{order.server_id}", body, headers=name)
                    return
                except nats.errors.Error:
                    await asyncio.sleep(0.1)

    async def until(self, holds: Callable[[], Any], what: str = "") -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not holds():
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise AssertionError(f"not within {WAIT_SECONDS} s: {what}; reports: {self.reports}") from error

    async def outcome_of(self, number: int) -> Report:
        def found() -> list[Report]:
            return [r for r in self.reports if r.order_id == str(number) and r.outcome != "progress"]

        await self.until(found, f"outcome of order {number}")
        return found()[0]

    async def unacknowledged(self, host: str = HOST) -> int:
        info = await self.client.jetstream().consumer_info("ORDERS", host)
        return (info.num_ack_pending or 0) + (info.num_pending or 0)

    async def settled(self, host: str = HOST) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.unacknowledged(host):
                await asyncio.sleep(0.02)

    async def ask_until_up(self) -> None:
        """Wait until the agent answers questions: it serves then."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    await self.ask("reconcile")
                    return
                except nats.errors.Error:
                    await asyncio.sleep(0.05)

    async def ask(self, kind: str, server_id: str = "", **params: Any) -> Any:
        question = msgspec.json.encode({"kind": kind, "server_id": server_id, "params": params})
        answer = await self.client.request(f"agent.{HOST}.ask", question, timeout=WAIT_SECONDS)
        return msgspec.json.decode(answer.data)


@pytest.fixture
def agent_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A server that knows a control plane's user and one agent's user."""
    users = [NatsUser("control", "control-secret"), agent_user(HOST, PASSWORD)]
    with EmbeddedNats.start(tmp_path / "nats-data", sync_interval=None, auth=users) as server:
        yield server


@pytest.fixture
async def control_plane(agent_nats: EmbeddedNats) -> AsyncIterator[ControlPlane]:
    client = await nats.connect(
        agent_nats.url, user="control", password="control-secret", max_reconnect_attempts=-1, reconnect_time_wait=1
    )
    plane = ControlPlane(agent_nats.url, client)
    await ensure_streams(client.jetstream())
    await ensure_host_consumer(client.jetstream(), HOST)

    taken: set[tuple[int, datetime]] = set()

    async def on_report(message: Any) -> None:
        stored = (message.metadata.sequence.stream, message.metadata.timestamp)
        if stored in taken:  # it was acknowledged so late that it came once more
            await message.ack()
            return
        taken.add(stored)
        if message.subject.endswith(".inventory"):
            plane.inventories.append(msgspec.json.decode(message.data))
        elif message.subject.endswith(f".{SEVERAL}"):
            plane.reports += msgspec.json.decode(message.data, type=list[Report])
        else:
            plane.reports.append(msgspec.json.decode(message.data, type=Report))
        await message.ack()

    await client.subscribe(reports_subject(TERM), cb=on_report)
    await direct_reports(client.jetstream(), TERM)
    yield plane
    await client.close()


def agent_settings(url: str, data_dir: Path, **options: Any) -> AgentSettings:
    return AgentSettings(
        hosts=(HOST,),
        driver="simulated",
        data_dir=data_dir,
        nats=NatsAccess([url], HOST, HOST, PASSWORD),
        driver_options=options,
    )


@asynccontextmanager
async def running_agent(settings: AgentSettings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(serve(settings, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await task


def server_id() -> str:
    return str(uuid4())
