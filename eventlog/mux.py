"""Requests over one wildcard inbox: the hot path of the log, on nats-py's public publish and subscribe.

nats-py's own `request` costs a task, a timer and a wait per call. Here a request is a token and a future; one
subscription takes all answers and one timer ends all requests that ran out of time. TLS, authentication and
reconnecting stay with nats-py.

Every request ends: with an answer, with `NoAnswer` after `timeout` seconds or when the connection breaks. `NoAnswer`
says nothing about what the server did with the request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError

from eventlog.errors import LogUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

SWEEP_SECONDS = 0.25


async def let_go(client: Client) -> None:
    """Close a connection. Raises nothing: one that NATS has left can not be flushed, and need not be.

    What was still to be sent then was never acknowledged. nats-py writes it to the transport all the same, and uvloop's
    says with a RuntimeError that it is closed. It also cancels its own task that was reconnecting, and with that what
    both wait for, the end of the transport: such a CancelledError is not meant for who called this.
    """
    try:
        await client.close()
    except (OSError, RuntimeError, NatsError):
        pass
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


class NoAnswer(Exception):
    """A request was sent, perhaps, and not answered."""


class RequestMux:
    """Sends requests and matches answers. Owns one subscription; belongs to one event loop."""

    def __init__(self, client: Client, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._prefix = client.new_inbox() + "."
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        # All requests wait equally long, so their deadlines are in the order of sending.
        self._deadlines: deque[tuple[float, str]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sent = 0
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        self._subscription = await self._client.subscribe(self._prefix + "*", cb=self._on_answer)
        await self._client.flush()

    async def request(self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
        """The answer to one message. Raises LogUnavailable if nothing was sent, NoAnswer if it may have been."""
        if not self._client.is_connected:
            raise LogUnavailable("not connected to NATS: retry in a moment")
        self._sent += 1
        token = str(self._sent)
        future: asyncio.Future[Msg] = self._loop.create_future()
        self._waiting[token] = future
        self._deadlines.append((self._loop.time() + self._timeout, token))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        try:
            await self._client.publish(subject, payload, self._prefix + token, headers)
            return await future
        except (NatsError, OSError) as error:
            raise NoAnswer(f"the connection to NATS failed: {error!r}") from error
        finally:
            self._waiting.pop(token, None)

    def disconnected(self) -> None:
        """End all requests that are waiting: their answers, if any, went to the broken connection."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(NoAnswer("the connection to NATS broke"))

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._subscription is not None and not self._client.is_closed:
            await self._subscription.unsubscribe()
        self.disconnected()

    async def _on_answer(self, message: Msg) -> None:
        future = self._waiting.pop(message.subject[len(self._prefix) :], None)
        if future is not None and not future.done():
            future.set_result(message)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._loop.time()
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][1] not in self._waiting):
            _, token = self._deadlines.popleft()
            future = self._waiting.get(token)
            if future is not None and not future.done():
                future.set_exception(NoAnswer(f"no answer from NATS within {self._timeout:g} s"))
        if self._deadlines:
            self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
