"""What an agent that stops has not done goes to the next one at once, not when the consumer's ack_wait is over.

Seen on a loaded machine: an order that was on its way to an agent just told to stop was left for half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from nats.js.api import ConsumerConfig

from hypervisor_agent import consumer, process
from hypervisor_agent.consumer import Delivery, OrderConsumer
from hypervisor_agent.link import Link, NatsAccess
from tests.agent_fixtures import (
    HOST,
    PASSWORD,
    WAIT_SECONDS,
    ControlPlane,
    agent_settings,
    order,
    running_agent,
    server_id,
)
from tests.eventlog_samples import until_it_listens

MANY = 100


async def be_patient(plane: ControlPlane) -> None:
    """An order that is not handed back does not come again while a test runs."""
    stream = plane.client.jetstream()
    known = (await stream.consumer_info("ORDERS", HOST)).config
    patient = ConsumerConfig(durable_name=HOST, filter_subject=known.filter_subject, ack_policy=known.ack_policy)
    patient.ack_wait, patient.max_ack_pending = 3600, known.max_ack_pending
    await stream.add_consumer("ORDERS", patient)


@pytest.fixture(autouse=True)
def _as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "HAND_BACK_SECONDS", WAIT_SECONDS)


async def test_orders_in_hand_and_on_their_way_are_handed_back(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DRAIN_SECONDS", 0.1)
    await be_patient(control_plane)
    servers = [server_id() for _ in range(MANY)]
    async with running_agent(agent_settings(control_plane.url, tmp_path, latency={"spawn": "hang"})):
        for number, server in enumerate(servers):
            await control_plane.send(order("spawn", server, number))
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        for number in range(MANY):
            assert (await control_plane.outcome_of(number)).outcome == "succeeded"
        await control_plane.settled()


class SlowWire:
    """A wire to NATS on which something happens just before the end of a subscription arrives there."""

    def __init__(self, port: int, before_the_end: Callable[[], Awaitable[None]]) -> None:
        self._port = port
        self._before_the_end = before_the_end

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_nats, to_nats = await asyncio.open_connection("127.0.0.1", self._port)

        async def back() -> None:
            while data := await from_nats.read(1 << 16):
                writer.write(data)

        answers = asyncio.create_task(back())
        while data := await reader.read(1 << 16):
            before, end, after = data.partition(b"UNSUB")
            to_nats.write(before)
            if end:
                await self._before_the_end()
                to_nats.write(end + after)
        to_nats.close()
        await answers
        writer.close()


async def test_an_order_that_comes_just_before_nats_hears_of_the_end_is_handed_back(
    control_plane: ControlPlane,
) -> None:
    await be_patient(control_plane)
    taken: list[Delivery] = []
    sent: list[int] = []

    async def one_more() -> None:
        if not sent:
            sent.append(1)
            await asyncio.sleep(0.2)  # the agent gets the answer to what it asked before
            await control_plane.send(order("spawn", server_id(), 1))
            await asyncio.sleep(0.2)

    wire = SlowWire(int(control_plane.url.rpartition(":")[2]), one_more)
    async with await asyncio.start_server(wire.carry, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        link = Link(NatsAccess([url], HOST, HOST, PASSWORD))
        await link.open()
        stopping = OrderConsumer(link, HOST, taken.append, 10)
        await stopping.start()
        await until_it_listens(link.client)
        await stopping.stop()
        await link.close()
    assert (sent, taken) == ([1], [])
    link = Link(NatsAccess([control_plane.url], HOST, HOST, PASSWORD))
    await link.open()
    following = OrderConsumer(link, HOST, taken.append, 10)
    await following.start()
    await control_plane.until(lambda: taken, "the order comes again")
    await following.stop()
    await link.close()
