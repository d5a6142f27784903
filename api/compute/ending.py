"""Waiting for an accepted action to end: where Nova's own call waits for its compute service, so does ours."""

from __future__ import annotations

import asyncio

from api.compute.call import Call
from domain.errors import NotFound
from domain.server import Server, decode_server

PAUSES = (0.0, 0.005, 0.01, 0.02, 0.05)
PAUSE_SECONDS = 0.1


async def ended(call: Call, server_id: str, request_id: str, seconds: float) -> Server | None:
    """The server when its action has ended, as whoever reads next finds it.

    None if that takes longer than about `seconds`; the action then goes on.
    """
    commands = call.services.commands
    for pause in (*PAUSES, *(PAUSE_SECONDS for _ in range(int(seconds / PAUSE_SECONDS)))):
        await asyncio.sleep(pause)
        newest = await commands.last("server", server_id)
        if newest is None:
            raise NotFound(f"Instance {server_id} could not be found.")
        server = decode_server(newest.commit.state)
        if server.operation is None or server.operation.request_id != request_id:
            await call.services.read.shown(newest.position, commands.settings.visible_timeout)
            return server
    return None
