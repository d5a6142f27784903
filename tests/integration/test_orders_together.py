"""Orders that share a message: what the conductor's post puts on the stream, and what an agent makes of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commands.lease import LeaseLost
from commands.order_post import MOST_TOGETHER, OrderPost
from commands.orders import NEVER
from commands.streams import ORDERS, ensure_streams
from domain.orders import Order
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats
from tests.agent_fixtures import HOST, WAIT_SECONDS, ControlPlane, agent_settings, order, running_agent, server_id

Bed = tuple[EventLog, EmbeddedNats]


@pytest.fixture
async def bed(own_nats: EmbeddedNats) -> AsyncIterator[Bed]:
    log = await EventLog.open(own_nats.url)
    await ensure_streams(log.js)
    yield log, own_nats
    await log.close()


async def held() -> None:
    """The lease is held."""


async def stored(log: EventLog, count: int) -> list[list[str]]:
    """Which servers the messages of the stream are for, once there are so many orders in it."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            last = (await log.js.stream_info(ORDERS)).state.last_seq
            raw = [(await log.js.get_msg(ORDERS, number)).data or b"" for number in range(1, last + 1)]
            messages = [
                [one.server_id for one in msgspec.json.decode(each, type=list[Order])] for each in map(_list, raw)
            ]
            if sum(map(len, messages)) >= count:
                return messages
            await asyncio.sleep(0.02)


def _list(message: bytes) -> bytes:
    return message if message.startswith(b"[") else b"[" + message + b"]"


def some(count: int, host: str = HOST) -> list[Order]:
    return [order("power_off", f"{host}-{number}", number, host=host) for number in range(1, count + 1)]


async def test_orders_of_the_same_turn_share_a_message_of_their_host(bed: Bed) -> None:
    log, _ = bed
    post = OrderPost(log, held)
    for each in (*some(3), *some(1, "host-2")):
        post.put(each, NEVER)
    messages = await stored(log, 4)
    assert sorted(messages) == [["host-1-1", "host-1-2", "host-1-3"], ["host-2-1"]]
    await post.stop()


async def test_a_message_holds_no_more_than_it_may_and_the_order_stays(bed: Bed) -> None:
    log, _ = bed
    post = OrderPost(log, held)
    orders = some(MOST_TOGETHER * 2 + 1)
    for each in orders:
        post.put(each, NEVER)
    messages = await stored(log, len(orders))
    assert max(map(len, messages)) <= MOST_TOGETHER
    assert [one for message in messages for one in message] == [each.server_id for each in orders]
    await post.stop()


async def test_who_lost_the_lease_sends_nothing_and_is_told(bed: Bed) -> None:
    log, _ = bed

    async def lost() -> None:
        raise LeaseLost("term 1 is over")

    post = OrderPost(log, lost)
    post.put(some(1)[0], NEVER)
    with pytest.raises(LeaseLost):
        await post.send(some(2)[1], NEVER)
    assert (await log.js.stream_info(ORDERS)).state.last_seq == 0


async def test_what_nats_does_not_take_is_sent_until_its_deadline(bed: Bed) -> None:
    log, nats = bed
    post = OrderPost(log, held)
    nats.stop()
    late, patient = some(2)
    sending = asyncio.create_task(post.send(patient, NEVER))
    async with asyncio.timeout(WAIT_SECONDS):
        await post.send(late, datetime.now(UTC) - timedelta(seconds=1))
    assert not sending.done()
    nats.restart()
    async with asyncio.timeout(WAIT_SECONDS):
        await sending
    assert [patient.server_id] in await stored(log, 1)
    await post.stop()


async def send_together(plane: ControlPlane, *orders: Any) -> None:
    body = msgspec.json.encode(list(orders))
    await plane.client.jetstream().publish(f"orders.{HOST}.{server_id()}", body)


async def test_each_order_of_a_message_is_carried_out_and_the_message_acknowledged_after_the_last(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    first, second, stuck = server_id(), server_id(), server_id()
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await send_together(
            control_plane,
            order("create_disk", first, 1),
            order("create_disk", stuck, 2, name="web-hang-create-disk"),
            order("create_disk", second, 3),
        )
        for number in (1, 3):
            assert (await control_plane.outcome_of(number)).outcome == "succeeded"
        assert await control_plane.unacknowledged() == 1
        await control_plane.send(order("destroy", stuck, 4))  # takes the place of the one that hangs
        assert (await control_plane.outcome_of(4)).outcome == "succeeded"
        await control_plane.settled()
    assert not [report for report in control_plane.reports if report.order_id == "2"]


async def test_an_order_that_can_not_be_read_does_not_take_the_others_with_it(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await send_together(control_plane, {"kind": "no such"}, order("create_disk", server_id(), 1))
        assert (await control_plane.outcome_of(1)).outcome == "succeeded"
        await control_plane.settled()


async def test_a_message_that_comes_again_is_done_once_and_answered_whole(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    servers = [server_id() for _ in range(3)]
    orders = [order("spawn", server, number) for number, server in enumerate(servers, 1)]
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await send_together(control_plane, *orders[:2])
        for number in (1, 2):
            await control_plane.outcome_of(number)
        await control_plane.settled()
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await send_together(control_plane, *orders)
        await control_plane.outcome_of(3)
        await control_plane.settled()
        consoles = [(await control_plane.ask("console_output", server))["result"]["output"] for server in servers]
    assert [console.count("boots=") for console in consoles] == [1, 1, 1]
    assert {report.server_id for report in control_plane.reports} == set(servers)


async def test_an_order_named_twice_in_a_message_is_one_order(control_plane: ControlPlane, tmp_path: Path) -> None:
    twice, once = order("create_disk", server_id(), 1), order("create_disk", server_id(), 2)
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await send_together(control_plane, twice, twice, once)
        for number in (1, 2):
            assert (await control_plane.outcome_of(number)).outcome == "succeeded"
        await control_plane.settled()
    told = (await control_plane.client.jetstream().consumer_info(ORDERS, HOST)).delivered
    assert told is not None
    assert told.consumer_seq == 1  # delivered once


async def test_an_order_that_waits_for_the_journal_comes_again_while_another_of_its_message_runs(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypervisor_agent.agent.JOURNAL_RETRY_SECONDS", 0.5)
    monkeypatch.setattr("hypervisor_agent.process.EXTEND_SECONDS", 0.05)
    waits, runs = server_id(), server_id()
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await control_plane.ask_until_up()
        disk = sqlite3.connect(tmp_path / HOST / "journal.db", isolation_level=None)
        # What is done can not be kept; what is begun can.
        disk.execute("create trigger full before insert on outbox begin select raise(abort, 'disk is full'); end")
        await send_together(
            control_plane, order("create_disk", waits, 1), order("create_disk", runs, 2, name="web-hang-create-disk")
        )
        async with asyncio.timeout(WAIT_SECONDS):
            while not (await control_plane.client.jetstream().consumer_info(ORDERS, HOST)).num_redelivered:
                await asyncio.sleep(0.02)
        disk.execute("drop trigger full")
        disk.close()
        assert (await control_plane.outcome_of(1)).outcome == "succeeded"
        await control_plane.send(order("destroy", runs, 3))  # takes the place of the one that hangs
        assert (await control_plane.outcome_of(3)).outcome == "succeeded"
        await control_plane.settled()
