"""What an agent that stops has not done goes to the next one at once, not when the consumer's ack_wait is over.

Seen on a loaded machine: an order that was on its way to an agent just told to stop was left for half a minute.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.js.api import ConsumerConfig

from hypervisor_agent import process
from tests.agent_fixtures import HOST, ControlPlane, agent_settings, order, running_agent, server_id

MANY = 100


async def test_orders_in_hand_and_on_their_way_are_handed_back(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DRAIN_SECONDS", 0.1)
    stream = control_plane.client.jetstream()
    known = (await stream.consumer_info("ORDERS", HOST)).config
    patient = ConsumerConfig(durable_name=HOST, filter_subject=known.filter_subject, ack_policy=known.ack_policy)
    patient.ack_wait, patient.max_ack_pending = 3600, known.max_ack_pending
    await stream.add_consumer("ORDERS", patient)
    servers = [server_id() for _ in range(MANY)]
    async with running_agent(agent_settings(control_plane.url, tmp_path, latency={"spawn": "hang"})):
        for number, server in enumerate(servers):
            await control_plane.send(order("spawn", server, number))
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        for number in range(MANY):
            assert (await control_plane.outcome_of(number)).outcome == "succeeded"
        await control_plane.settled()
