"""The streams beside the log: orders to agents, their reports, rejections, idempotency keys. All bounded.

Orders keep a few messages per server, so the stream is as large as the fleet. More than one, because a conductor that
starts may publish an order again just when the next one is out; the agent goes by the generation. A message may hold
orders of several servers (`commands.order_post`): were it pushed out by later ones of its first server before its host
took it, the others' would be sent anew when the host answers again.
Reports are a work queue: gone once the conductor has appended what follows from them.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

from eventlog.stream import create, replicate

ORDERS = "ORDERS"
REPORTS = "REPORTS"
REJECTIONS = "CHRONOVA_REJECTIONS"
IDEMPOTENCY = "CHRONOVA_IDEMPOTENCY"
REPORTS_CONSUMER = "conductor"
REPORTS_ACK_SECONDS = 5  # a report that was not settled comes again after so long
DIRECT_ATTEMPTS = 3
MAX_KEPT_BYTES = 1_000_000  # of an answer under an idempotency key; a nats-server takes 1 MiB unless told otherwise

_DAY = 24 * 3600

CONFIGS = (
    StreamConfig(
        name=ORDERS,
        subjects=["orders.>"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_msgs_per_subject=8,
        max_msg_size=1 << 18,
        duplicate_window=60,
    ),
    StreamConfig(
        name=REPORTS,
        subjects=["reports.>"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        max_msgs=1_000_000,
        max_msg_size=1 << 18,
        duplicate_window=60,
    ),
    StreamConfig(
        name=REJECTIONS,
        subjects=["rejected.>"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_msgs=1_000_000,
        max_age=30 * _DAY,
        max_msg_size=1 << 16,
        duplicate_window=1,
    ),
    StreamConfig(
        name=IDEMPOTENCY,
        subjects=["idempotency.>"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_msgs_per_subject=1,
        max_age=_DAY,
        max_msg_size=MAX_KEPT_BYTES,
        duplicate_window=1,
        allow_direct=True,
    ),
)


async def ensure_streams(js: JetStreamContext, replicas: int | None = None) -> None:
    """Create what is missing. An existing one keeps its configuration, but takes messages as large as are sent now.

    `replicas` as for the log (`eventlog.stream`, which raises StreamMismatch). Consumers have as many as their stream.
    """
    await asyncio.gather(*(_ensure(js, config, replicas) for config in CONFIGS))


def reports_subject(term: int) -> str:
    """Where the conductor of a term is sent the reports."""
    return f"deliver.reports.{term}"


async def direct_reports(js: JetStreamContext, term: int) -> None:
    """Send the reports to the conductor of this term, and to no former one, which may be stopped and answer nothing.

    A work queue has one consumer at a time, and those of later terms are left: a conductor that was stopped
    right here and goes on later is refused. A new consumer gets everything that is not settled, at once: also what a
    killed conductor had in hand, and what a consumer of the same term would never be sent (a nats-server that was
    killed may count an empty stream from one again, and its consumer from where it was). Raises nats.js.errors.Error
    if a later term has them.
    """
    for attempt in range(DIRECT_ATTEMPTS):
        for one in await js.consumers_info(REPORTS):
            if _term_of(one.name) <= term:
                with contextlib.suppress(NotFoundError):
                    await js.delete_consumer(REPORTS, one.name)
        try:
            await js.add_consumer(
                REPORTS,
                ConsumerConfig(
                    durable_name=f"{REPORTS_CONSUMER}-{term}",
                    deliver_subject=reports_subject(term),
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=REPORTS_ACK_SECONDS,
                    max_ack_pending=1024,
                    filter_subject="reports.>",
                ),
            )
            return
        except BadRequestError:  # an earlier conductor was quicker: its consumer goes next time round
            if attempt == DIRECT_ATTEMPTS - 1:
                raise


def _term_of(consumer: str) -> int:
    term = consumer.rpartition("-")[2]
    return int(term) if term.isdigit() else 0


async def _ensure(js: JetStreamContext, config: StreamConfig, replicas: int | None) -> None:
    assert config.name is not None
    try:
        found = (await js.stream_info(config.name)).config
    except NotFoundError:
        await create(js, dataclasses.replace(config, num_replicas=replicas or 1))
        return
    await replicate(js, found, replicas)
    if (found.max_msg_size or -1) != -1 and (config.max_msg_size or 0) > (found.max_msg_size or 0):
        found.max_msg_size = config.max_msg_size
        await js.update_stream(found)


async def ensure_host_consumer(js: JetStreamContext, host: str) -> None:
    """The durable consumer through which one host takes its orders."""
    try:
        await js.consumer_info(ORDERS, host)
    except NotFoundError:
        await js.add_consumer(
            ORDERS,
            ConsumerConfig(
                durable_name=host,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=30,
                max_ack_pending=256,
                filter_subject=f"orders.{host}.>",
            ),
        )
