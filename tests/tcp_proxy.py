"""A TCP proxy that can lose what it carries: how a test makes an acknowledgement disappear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class LossyProxy:
    """Forwards connections to a port; `lose_answers` and `lose_requests` drop the bytes of one direction."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.lose_answers = False
        self.lose_requests = False

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection, and carry the next ones faithfully."""
        self.lose_answers = self.lose_requests = False
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, server_writer}
        for pump in (
            self._pump(reader, server_writer, "lose_requests"),
            self._pump(server_reader, writer, "lose_answers"),
        ):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loss: str) -> None:
        try:
            while data := await reader.read(1 << 16):
                if not getattr(self, loss):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass  # the connection was cut, which is what it is for
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def lossy_proxy(port: int) -> AsyncIterator[LossyProxy]:
    proxy = LossyProxy(port)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        if proxy._tasks:
            await asyncio.wait(proxy._tasks, timeout=5)
        await server.wait_closed()
