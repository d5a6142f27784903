"""Comparing the table of refusals with the stream it is copied from, as far as it was copied and the stream remembers.

A refusal is in no chain and nothing is derived from it; the stream forgets old ones, and the table follows it within
the hour. So what the stream has forgotten is not compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from sqlalchemy import Connection, select

from eventlog.log import EventLog
from projections import rejections as source
from projections.compare import Difference, Row, place_of
from projections.database import ReadModelUnavailable
from projections.schema import REJECTIONS, rejections

GIVER = "their stream"
TRIES = 6

Run = Callable[[Callable[[], Any]], Awaitable[Any]]  # on the thread that the connection belongs to


async def differences(log: EventLog, run: Run, live: Connection, limit: int) -> list[Difference]:
    """The first differences, in the order of the stream. Raises ReadModelUnavailable when it can not be read."""
    place, _ = await run(partial(place_of, live, REJECTIONS))
    first, last = await _ends(log)
    if place > last:
        return [Difference("positions", (REJECTIONS,), "position", place, last, GIVER)]
    found: list[Difference] = []
    seen = first - 1
    async with aclosing(_messages(log, first, place)) as batches:
        async for messages in batches:
            given = {message.metadata.sequence.stream: _row(message) for message in messages}
            held = await run(partial(_held, live, seen, max(given)))
            found += _compared(held, given)
            seen = max(given)
            if len(found) >= limit:
                break
    if len(found) < limit:
        found += _compared(await run(partial(_held, live, seen, None, limit)), {})
    forgotten, _ = await _ends(log)  # meanwhile
    return [one for one in found if one.rebuilt is not None or one.key[0] >= forgotten][:limit]


async def _ends(log: EventLog) -> tuple[int, int]:
    """The first and the last sequence of the stream; of one that is not there yet, of an empty one."""
    try:
        state = (await log.js.stream_info(source.STREAM)).state
    except NotFoundError:
        return 1, 0
    return max(state.first_seq, 1), state.last_seq  # of a stream that never held anything both are 0


async def _messages(log: EventLog, first: int, upto: int) -> AsyncGenerator[list[Msg], None]:
    """What the stream has between two sequences, in order; read on from there when the connection breaks."""
    tries = TRIES
    while first <= upto:
        try:
            first = max(first, (await _ends(log))[0])
            if first > upto:
                return  # forgotten meanwhile
            async with aclosing(_batches(log, first)) as batches:
                async for batch in batches:
                    tries, first = TRIES, batch[-1].metadata.sequence.stream + 1
                    if wanted := [message for message in batch if message.metadata.sequence.stream <= upto]:
                        yield wanted
                    if first > upto or batch[-1].metadata.num_pending == 0:
                        return
        except (JetStreamError, nats.errors.Error, OSError, TimeoutError, IndexError) as error:
            # nats-py's fetch takes from its own list after a reconnect emptied it: an IndexError (seen with 2.16).
            tries -= 1
            if not tries:
                raise ReadModelUnavailable(
                    f"the stream {source.STREAM} can not be read ({error!r}): try again"
                ) from error
            await asyncio.sleep(source.PAUSE_SECONDS)


async def _batches(log: EventLog, first: int) -> AsyncGenerator[list[Msg], None]:
    """What the stream has from there on, without an end: raises TimeoutError where nothing follows."""
    config = ConsumerConfig(
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=first,
        inactive_threshold=source.INACTIVE_SECONDS,
        mem_storage=True,
    )
    subscription = await log.js.pull_subscribe("", stream=source.STREAM, config=config)
    try:
        while True:
            yield await subscription.fetch(source.BATCH, timeout=source.FETCH_SECONDS)
    finally:
        await subscription.unsubscribe()


def _row(message: Msg) -> Row | None:
    """The row that a message becomes; None for one that can not be read, which has none."""
    try:
        return source.rejection_row(message.metadata.sequence.stream, message.data)
    except msgspec.DecodeError:
        return None


def _held(live: Connection, after: int, upto: int | None, limit: int | None = None) -> dict[int, Row]:
    """The table's rows with an id in this range."""
    statement = select(rejections).where(rejections.c.id > after).order_by(rejections.c.id).limit(limit)
    if upto is not None:
        statement = statement.where(rejections.c.id <= upto)
    return {row.id: tuple(row) for row in live.execute(statement)}


def _compared(held: Mapping[int, Row], given: Mapping[int, Row | None]) -> list[Difference]:
    found = []
    for key in sorted(held.keys() | given.keys()):
        mine, other = held.get(key), given.get(key)
        if mine is None or other is None:
            if mine is not other:
                found.append(Difference("rejections", (key,), "", mine, other, GIVER))
            continue
        for column, have, want in zip(rejections.columns.keys(), mine, other, strict=True):
            if have != want:
                found.append(Difference("rejections", (key,), column, have, want, GIVER))
    return found
