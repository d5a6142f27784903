"""Orders from the durable pull consumer of one host, a batch at a time.

The control plane owns the stream `ORDERS` and one durable consumer per host, named like the host; the agent may only
pull from its own and acknowledge. At least once: an order that is neither acknowledged nor extended within the
consumer's ack_wait comes again, as does everything that was unacknowledged when the process died. What was on its way
to an agent that stops is handed back, so that the next one gets it at once. A pull that NATS forgot (restart, new
leader, consumer not made yet) is noticed by its age, in a cluster by the lack of its heartbeats, and asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from hypervisor_agent.link import Link

STREAM = "ORDERS"
PULL_SECONDS = 30.0
PULL_GRACE_SECONDS = 2.0
BEAT_SECONDS = 2.0
BEAT_GRACE_SECONDS = 2 * BEAT_SECONDS + 0.5
RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 2.0
HAND_BACK_SECONDS = 1.0

log = structlog.get_logger("agent")
_decode_several = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Delivery:
    """One delivery of one order: it ends acknowledged, or it comes again."""

    __slots__ = ("_link", "_reply", "data", "handed_back")

    def __init__(self, link: Link, data: bytes, reply: str) -> None:
        self.data = data
        self.handed_back = False
        self._link = link
        self._reply = reply

    async def ack(self) -> None:
        await self._link.send(self._reply, b"+ACK")

    async def extend(self) -> None:
        """Still working on it: the consumer's ack_wait starts again. It would undo a delay until it comes again."""
        if not self.handed_back:
            await self._link.send(self._reply, b"+WPI")

    async def again(self, seconds: float) -> None:
        """Deliver it again later."""
        self.handed_back = True
        await self._link.send(self._reply, b"-NAK " + json.dumps({"delay": int(seconds * 1e9)}).encode())

    async def refuse(self) -> None:
        """Never deliver it again: it can not be read."""
        await self._link.send(self._reply, b"+TERM")

    @property
    def message(self) -> Delivery:
        """The delivery that a sign of life has to be sent for."""
        return self


class _Together:
    """A delivered list of orders. `left`: how many are not settled; it never ends once it has to come again."""

    __slots__ = ("delivery", "left")

    def __init__(self, delivery: Delivery, left: int) -> None:
        self.delivery = delivery
        self.left = left


class Share(Delivery):
    """One order of several that came in one message, which is acknowledged when each of them is."""

    __slots__ = ("_together",)

    def __init__(self, data: bytes, together: _Together) -> None:
        self.data = data
        self._together = together

    async def ack(self) -> None:
        together = self._together
        together.left -= 1
        if together.left == 0 and not together.delivery.handed_back:
            await together.delivery.ack()

    async def extend(self) -> None:
        await self._together.delivery.extend()

    async def again(self, seconds: float) -> None:
        """All of them come again: those that were done are answered by what is known of them."""
        if not self._together.delivery.handed_back:
            await self._together.delivery.again(seconds)

    async def refuse(self) -> None:
        """It can not be read, which says nothing about the others."""
        await self.ack()

    @property
    def message(self) -> Delivery:
        return self._together.delivery


def shares_of(delivery: Delivery) -> list[Delivery]:
    """The orders of a message, each with what it is acknowledged by. Raises `msgspec.DecodeError`."""
    if not delivery.data.startswith(b"["):
        return [delivery]
    orders = _decode_several(delivery.data)
    if not orders:
        raise msgspec.DecodeError("a list of no orders")
    together = _Together(delivery, len(orders))
    return [Share(bytes(order), together) for order in orders]


class OrderConsumer:
    """Hands every delivery to `handler`, in the order of arrival. `batch` is how many one pull asks for."""

    def __init__(self, link: Link, host: str, handler: Callable[[Delivery], None], batch: int) -> None:
        self._link = link
        self._host = host
        self._handler = handler
        self._batch = batch
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._left = 0
        self._pulled_at = 0.0
        self._beats = False  # the newest pull has heartbeats
        self._timer: asyncio.TimerHandle | None = None
        self._retry = RETRY_SECONDS
        self._closed = False
        self._pulls: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._inbox = f"{self._link.inbox()}.{self._host}"
        self._subscription = await self._link.subscribe(self._inbox, self._on_message)
        self._link.on_connect(self._pull)
        self._pull()

    async def stop(self) -> None:
        """Take no more orders. What was on its way is handed back; without NATS it comes again after the ack_wait."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._subscription is None or not self._link.client.is_connected:
            return
        with contextlib.suppress(TimeoutError, OSError, NatsError):
            async with asyncio.timeout(HAND_BACK_SECONDS):
                await self._link.drain(self._subscription)

    def _pull(self) -> None:
        if self._closed:
            return
        self._left = self._batch
        self._pulled_at = asyncio.get_running_loop().time()
        self._beats = self._link.clustered
        self._again_in(BEAT_GRACE_SECONDS if self._beats else PULL_SECONDS + PULL_GRACE_SECONDS)
        request = {"batch": self._batch, "expires": int(PULL_SECONDS * 1e9)}
        if self._beats:
            request["idle_heartbeat"] = int(BEAT_SECONDS * 1e9)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._host}"
        task = asyncio.ensure_future(self._ask(subject, json.dumps(request).encode()))
        self._pulls.add(task)
        task.add_done_callback(self._pulls.discard)

    async def _ask(self, subject: str, request: bytes) -> None:
        await self._link.send(subject, request, self._inbox)

    def _again_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pull)

    async def _on_message(self, message: Msg) -> None:
        if self._beats and not self._closed:
            self._again_in(BEAT_GRACE_SECONDS)
        status = (message.headers or {}).get("Status")
        if status is not None and not message.data:
            self._on_status(status, (message.headers or {}).get("Description", ""))
            return
        delivery = Delivery(self._link, message.data, message.reply)
        if self._closed:
            await delivery.again(0)
            return
        self._retry = RETRY_SECONDS
        self._left -= 1
        if self._left == 0:
            self._pull()
        self._handler(delivery)

    def _on_status(self, status: str, description: str) -> None:
        if status == "100" or self._closed:
            return
        if status == "408":  # a pull expired, as planned
            if asyncio.get_running_loop().time() - self._pulled_at > PULL_SECONDS / 2:  # else a newer one is out
                self._pull()
            return
        log.debug("the pull for orders ended", host=self._host, status=status, description=description)
        self._again_in(self._retry)
        self._retry = min(self._retry * 2, MAX_RETRY_SECONDS)
