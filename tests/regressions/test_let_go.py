"""A connection is closed in the moment in which NATS leaves: nothing comes out of it, and nothing stays behind.

nats-py's reconnecting task stands in the end of the transport then. Its close cancels that task, which cancelled the
end that the close waits for as well: whoever had let go of the connection was cancelled by nobody.
"""

from __future__ import annotations

import asyncio
import time

import nats
import pytest

from eventlog.mux import RequestMux, let_go

GREETING = b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576,"headers":true,"proto":1}\r\n'


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_nats_just_left_is_let_go_of(turns: int) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.write(GREETING)
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")

    async def ignored(_: Exception) -> None:
        pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await nats.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=-1, error_cb=ignored)
    mux = RequestMux(client, 1.0)
    await mux.open()
    before = asyncio.all_tasks()
    connections[0].close()
    server.close()
    deadline = time.monotonic() + 60
    while not client.is_reconnecting:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    await mux.close()
    await let_go(client)
    assert client.is_closed
    async with asyncio.timeout(60):
        while any(not task.done() for task in before if task is not asyncio.current_task()):
            await asyncio.sleep(0.01)


async def test_who_is_cancelled_while_letting_go_stays_so() -> None:
    class Slow:
        async def close(self) -> None:
            await asyncio.sleep(3600)

    task = asyncio.create_task(let_go(Slow()))  # type: ignore[arg-type]  # a close that takes its time
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
