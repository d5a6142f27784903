"""Refused commands, copied from their bounded stream into a table, so that a history can show them.

Not part of the log: nothing is derived from a refusal, and the stream forgets old ones; the table forgets them with it.
A stream that does not exist yet is waited for.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.exc import DBAPIError

from eventlog.envelope import Actor
from eventlog.log import EventLog
from projections.database import Statements
from projections.nulls import without_nulls
from projections.schema import REJECTIONS, positions, rejections
from projections.times import to_text

logger = logging.getLogger(__name__)

STREAM = "CHRONOVA_REJECTIONS"
BATCH = 500
FETCH_SECONDS = 5.0
PAUSE_SECONDS = 1.0
CANCEL_SECONDS = 0.1
CANCELS = 20
INACTIVE_SECONDS = 60.0
# How often what the stream has forgotten is forgotten here.
ROUND_SECONDS = 3600.0


class _Rejection(msgspec.Struct, frozen=True):
    at: datetime
    kind: str = "server"
    id: str = ""
    command: str = ""
    actor: Actor = Actor("")
    request_id: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    hint: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")


_decode = msgspec.json.Decoder(_Rejection).decode
_encode = msgspec.json.Encoder().encode


def rejection_row(sequence: int, data: bytes) -> tuple[Any, ...]:
    """A row of `rejections`, in the order of its columns. Raises msgspec.DecodeError."""
    one = _decode(without_nulls(data))
    return (
        sequence,
        to_text(one.at),
        one.kind,
        one.id,
        one.command,
        one.actor.user_id,
        one.actor.user_name,
        one.actor.project_id,
        _encode(one.actor).decode(),
        one.request_id,
        one.code,
        one.reason,
        one.message,
        one.hint,
        bytes(one.params).decode(),
    )


def _reached(connection: Connection) -> int:
    position: int = connection.execute(select(positions.c.position).where(positions.c.name == REJECTIONS)).scalar_one()
    return position


class RejectionFollower:
    """Copies the stream as it grows; its place in the stream is kept with the rows."""

    def __init__(self, log: EventLog, engine: Engine, thread: ThreadPoolExecutor) -> None:
        self._js = log.js
        self._engine = engine
        self._thread = thread
        self._upsert = Statements(engine.dialect).upsert(rejections)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="rejections")

    async def stop(self) -> None:
        # A fetch that gets its messages in the same moment swallows the cancellation: ask until it is heard.
        for _ in range(CANCELS):
            if self._task is None or self._task.done():
                return
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_SECONDS)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (JetStreamError, nats.errors.Error, OSError, TimeoutError, DBAPIError) as error:
                logger.debug("rejections are not followed for a moment: %r", error)
            except IndexError as error:
                # nats-py's fetch takes from its own list after a reconnect emptied it (seen with 2.16).
                logger.debug("a fetch of rejections broke off: %r", error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        state = (await self._js.stream_info(STREAM)).state
        position = await self._in_thread(partial(self._begin, state.first_seq, state.last_seq))
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=position + 1,
            inactive_threshold=INACTIVE_SECONDS,
            mem_storage=True,
        )
        subscription = await self._js.pull_subscribe("", stream=STREAM, config=config)
        try:
            loop = asyncio.get_running_loop()
            end = loop.time() + ROUND_SECONDS
            while loop.time() < end:
                try:
                    messages = await subscription.fetch(BATCH, timeout=FETCH_SECONDS)
                except TimeoutError:
                    messages = []  # nats-py has either answer for it
                if messages:
                    position = await self._in_thread(partial(self._write, position, messages))
                elif await self._in_thread(self._position) != position:
                    return  # the tables were made anew: what they lack is read again
        finally:
            await subscription.unsubscribe()

    def _position(self) -> int:
        with self._engine.connect() as connection:
            return _reached(connection)

    def _begin(self, first: int, last: int) -> int:
        """The position to go on from, after forgetting what the stream has forgotten."""
        mine = positions.c.name == REJECTIONS
        with self._engine.begin() as connection:
            position = _reached(connection)
            if position > last:
                # Another stream of this name: what it holds is read from its start.
                position = 0
                connection.execute(update(positions).where(mine).values(position=0))
                connection.execute(delete(rejections))
            connection.execute(delete(rejections).where(rejections.c.id < first))
            return position

    def _write(self, position: int, messages: list[Msg]) -> int:
        rows = []
        for message in messages:
            sequence = message.metadata.sequence.stream
            try:
                rows.append(rejection_row(sequence, message.data))
            except msgspec.DecodeError as error:
                logger.warning("rejection %d can not be read: %s", sequence, error)
        last = messages[-1].metadata.sequence.stream
        with self._engine.begin() as connection:
            move = update(positions).where(positions.c.name == REJECTIONS, positions.c.position == position)
            if connection.execute(move.values(position=last)).rowcount != 1:
                raise TimeoutError("the position of the rejections was moved by a rebuild or another projector")
            if rows:
                connection.exec_driver_sql(self._upsert, rows)
        return last

    async def _in_thread(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
