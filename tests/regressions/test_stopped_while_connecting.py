"""An agent that is told to stop while it connects to NATS closes what it has opened by then.

Seen on a loaded machine, where connecting takes longer than the time that an agent was given: a warning of a stream
that nobody closed.
"""

from __future__ import annotations

import asyncio
import gc

from eventlog.nats_server import EmbeddedNats
from hypervisor_agent.link import Link, NatsAccess


async def test_a_connection_is_closed_wherever_it_is_cut_off(own_nats: EmbeddedNats) -> None:
    for turns in range(40):
        link = Link(NatsAccess([own_nats.url], "agents"))
        opening = asyncio.create_task(link.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        if not opening.cancelled():
            await link.close()
        assert not link.client.is_connected
    del link, opening
    await asyncio.sleep(0.05)
    gc.collect()  # a stream that was not closed warns now, and a warning is an error
