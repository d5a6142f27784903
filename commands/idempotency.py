"""`Idempotency-Key`: the same key and the same request give the same answer; another request under it is refused.

A key is reserved (one conditional publish) before anything is decided, with the fingerprint of the request. The answer
is stored under it afterwards. When the process died in between, the next call with the key finds the reservation
without an answer; it then looks for the commit that carries the key and answers from that, or does the work now.
Keys live for a day and belong to the caller's project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from commands.context import CommandContext
from commands.streams import IDEMPOTENCY
from domain.errors import Invalid, KeyReused, Unavailable
from eventlog.log import EventLog

log_ = structlog.get_logger(__name__)

MAX_KEY = 255
_WRONG_SEQUENCE = 10071


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    fingerprint: str
    request_id: str
    answer: dict[str, Any] | None = None


Found = Callable[[], Awaitable[dict[str, Any] | None]]
Work = Callable[[], Awaitable[dict[str, Any]]]


class Idempotency:
    def __init__(self, log: EventLog) -> None:
        self._log = log

    def seed(self, context: CommandContext) -> str:
        """A name for the key that no other project can make: ids of created things are derived from it."""
        return f"{context.actor.project_id}:{context.actor.user_id}:{context.idempotency_key}"

    async def run(self, context: CommandContext, request: Any, found: Found, work: Work) -> dict[str, Any]:
        """Do `work` once per key. `found` looks for what an earlier, interrupted call has appended already."""
        key = context.idempotency_key
        if not key or len(key) > MAX_KEY:
            raise Invalid(f"Idempotency-Key must have 1 to {MAX_KEY} characters", reason="idempotency_key")
        subject = f"idempotency.{uuid5(NAMESPACE_URL, self.seed(context)).hex}"
        fingerprint = hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()
        record = _Record(fingerprint, context.request_id)
        sequence = await self._publish(subject, record, expected=0)
        if sequence is None:
            earlier = await self._read(subject)
            if earlier.fingerprint != fingerprint:
                raise KeyReused(
                    "This Idempotency-Key was used for another request",
                    hint="Use a new key for a new request.",
                )
            if earlier.answer is not None:
                return earlier.answer
            record = earlier
            answer = await found()
            if answer is None:
                answer = await work()
        else:
            answer = await work()
        try:
            await self._publish(subject, msgspec.structs.replace(record, answer=answer), expected=None)
        except Unavailable:  # the command is done, which is what its caller has to hear; a repeat will find its commit
            log_.warning("answer not kept under its idempotency key", request_id=record.request_id)
        return answer

    async def _publish(self, subject: str, record: _Record, *, expected: int | None) -> int | None:
        """The sequence of the stored record, or None when the key is taken."""
        headers = None if expected is None else {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        try:
            ack = await self._log.js.publish(subject, msgspec.json.encode(record), headers=headers)
        except APIError as error:
            if error.err_code == _WRONG_SEQUENCE:
                return None
            raise _unavailable() from error
        except (NatsError, TimeoutError, OSError) as error:
            raise _unavailable() from error
        return ack.seq

    async def _read(self, subject: str) -> _Record:
        try:
            message = await self._log.js.get_last_msg(IDEMPOTENCY, subject)
        except NotFoundError as error:
            raise Unavailable("The idempotency key expired just now", hint="Send the request again.") from error
        except (NatsError, TimeoutError, OSError) as error:
            raise _unavailable() from error
        return msgspec.json.decode(message.data or b"", type=_Record)


def _unavailable() -> Unavailable:
    """Nothing was decided yet; a reservation that did get through is found by the next request with the key."""
    return Unavailable("The idempotency key could not be kept", hint="Send the request again.")
