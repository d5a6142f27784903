"""`Idempotency-Key`: the same key and the same request give the same answer; another request under it is refused.

A key is reserved (one conditional publish) before anything is decided, with the fingerprint of the request. The answer
is stored under it afterwards; a refusal is an answer too, but not what was refused because something was unavailable.
A call that finds the key reserved and unanswered waits for the answer. When none comes within `wait` seconds of the
reservation the process that had it is taken for dead: the call looks for the commit that carries the key and answers
from that, or takes the reservation over (conditionally: one call does) and does the work. Keys live for a day and
belong to the caller's project.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from commands.context import CommandContext
from commands.streams import IDEMPOTENCY, MAX_KEPT_BYTES
from domain.errors import Invalid, KeyReused, Rejected, Unavailable, refusal_of
from eventlog.log import EventLog

log_ = structlog.get_logger(__name__)

MAX_KEY = 255
HEADERS_BYTES = 1024
PUBLISH_SECONDS = 1.5
PUBLISH_ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.02  # between two looks for another process's answer; it doubles
LONGEST_PAUSE_SECONDS = 0.5
_WRONG_SEQUENCE = 10071


class _Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    reason: str
    message: str
    hint: str = ""


_NOT_KEPT = _Refusal(
    code=409,
    reason="answer_not_kept",
    message="The request with this Idempotency-Key was carried out, and its answer was too large to keep",
    hint="Look at what it made or changed; use a new key for a new request.",
)


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """`given_up`: the call that had the key ended without an answer, so the next one need not wait."""

    fingerprint: str
    request_id: str
    at: datetime
    answer: dict[str, Any] | None = None
    refusal: _Refusal | None = None
    given_up: bool = False


Found = Callable[[], Awaitable[dict[str, Any] | None]]
Work = Callable[[], Awaitable[dict[str, Any]]]


async def nothing_found() -> dict[str, Any] | None:
    """For work that finds by itself what an earlier call has done."""
    return None


class Idempotency:
    """`wait`: seconds after which a reservation without an answer counts as left behind."""

    def __init__(self, log: EventLog, wait: float) -> None:
        self._log = log
        self._wait = wait
        self._underway: dict[str, asyncio.Event] = {}  # the keys whose work is being done in this process

    def seed(self, context: CommandContext) -> str:
        """A name for the key that no other project can make: ids of created things are derived from it."""
        return f"{context.actor.project_id}:{context.actor.user_id}:{context.idempotency_key}"

    async def run(
        self, context: CommandContext, request: Any, found: Found, work: Work, *, scope: str = ""
    ) -> dict[str, Any]:
        """Do `work` once per key, and raise its refusal again. `found` looks for what an earlier, interrupted call has
        appended already. Keys of different scopes are different keys.
        """
        key = context.idempotency_key
        if not key or len(key) > MAX_KEY:
            raise Invalid(
                f"Idempotency-Key must have 1 to {MAX_KEY} characters",
                hint="A UUID will do.",
                reason="idempotency_key",
            )
        subject = f"idempotency.{uuid5(NAMESPACE_URL, scope + self.seed(context)).hex}"
        fingerprint = hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()
        mine = _Record(fingerprint, context.request_id, datetime.now(UTC))
        taken = await self._publish(subject, mine, expected=0)
        if taken is not None:
            return await self._carry_out(subject, mine, taken, work)
        while True:
            earlier, sequence = await self._earlier(subject, fingerprint, found)
            if earlier.refusal is not None:
                raise _again(earlier.refusal)
            if earlier.answer is not None:
                return earlier.answer
            mine = msgspec.structs.replace(mine, request_id=earlier.request_id, at=datetime.now(UTC))
            taken = await self._publish(subject, mine, expected=sequence)
            if taken is not None:
                return await self._carry_out(subject, mine, taken, work)

    async def _earlier(self, subject: str, fingerprint: str, found: Found) -> tuple[_Record, int]:
        """The record of the call that has the key, once it is answered; without an answer it may be taken over."""
        pause, looked = FIRST_PAUSE_SECONDS, False
        started = asyncio.get_running_loop().time()
        while True:
            record, sequence = await self._read(subject)
            if record.fingerprint != fingerprint:
                raise KeyReused(
                    "This Idempotency-Key was used for another request", hint="Use a new key for a new request."
                )
            if record.answer is not None or record.refusal is not None:
                return record, sequence
            here = self._underway.get(subject)
            if here is None and not looked:
                looked = True
                answer = await found()
                if answer is not None:
                    return msgspec.structs.replace(record, answer=answer), sequence
            waited = max(asyncio.get_running_loop().time() - started, (datetime.now(UTC) - record.at).total_seconds())
            if here is None and (record.given_up or waited >= self._wait):
                answer = await found()
                return msgspec.structs.replace(record, answer=answer), sequence
            if waited >= self._wait + LONGEST_PAUSE_SECONDS and here is not None:
                raise Unavailable(
                    "The request with this Idempotency-Key is still being carried out", hint="Send it again."
                )
            await _pause(here, pause, self._wait)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _carry_out(self, subject: str, record: _Record, taken: int, work: Work) -> dict[str, Any]:
        """Do the work and keep what came of it, unless the key was taken over; wake whoever waits in this process."""
        done = self._underway[subject] = asyncio.Event()
        left = msgspec.structs.replace(record, given_up=True)
        try:
            answer = await work()
            left = msgspec.structs.replace(record, answer=answer)
            if len(msgspec.json.encode(left)) > MAX_KEPT_BYTES - HEADERS_BYTES:
                left = msgspec.structs.replace(record, refusal=_NOT_KEPT)
        except Rejected as rejected:
            if rejected.code < 500:
                refusal = _Refusal(rejected.code, rejected.reason, rejected.message, rejected.hint)
                left = msgspec.structs.replace(record, refusal=refusal)
            raise
        finally:
            try:
                await self._publish(subject, left, expected=taken)
            except Unavailable:  # what is done is what the caller has to hear; a repeat will find its commit
                log_.warning("answer not kept under its idempotency key", request_id=record.request_id)
            finally:
                del self._underway[subject]
                done.set()
        return answer

    async def _publish(self, subject: str, record: _Record, *, expected: int) -> int | None:
        """The sequence of the stored record, or None when the key is taken.

        An answer that a restart of nats-server swallowed is not waited for long: the record is sent again, and when
        the first copy was stored after all, that is the one.
        """
        data = msgspec.json.encode(record)
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        for attempt in range(PUBLISH_ATTEMPTS):
            try:
                ack = await self._log.js.publish(subject, data, headers=headers, timeout=PUBLISH_SECONDS)
            except APIError as error:
                if error.err_code == _WRONG_SEQUENCE:
                    stored, sequence = await self._read(subject) if attempt else (None, None)
                    return sequence if stored == record else None
                raise _unavailable() from error
            except (NatsError, TimeoutError, OSError) as error:
                failure = error
            else:
                return ack.seq
        raise _unavailable() from failure

    async def _read(self, subject: str) -> tuple[_Record, int]:
        try:
            message = await self._log.js.get_last_msg(IDEMPOTENCY, subject)
        except NotFoundError as error:
            raise Unavailable("The idempotency key expired just now", hint="Send the request again.") from error
        except (NatsError, TimeoutError, OSError) as error:
            raise _unavailable() from error
        return msgspec.json.decode(message.data or b"", type=_Record), message.seq or 0


async def _pause(here: asyncio.Event | None, seconds: float, longest: float) -> None:
    """Until the call of this process that has the key has ended, or for a moment when another process has it."""
    if here is None:
        await asyncio.sleep(seconds)
        return
    try:
        await asyncio.wait_for(here.wait(), longest)
    except TimeoutError:
        return


def _again(refusal: _Refusal) -> Rejected:
    """The refusal that the key got. It was recorded when it was given."""
    rejected = refusal_of(refusal.code, refusal.message, hint=refusal.hint, reason=refusal.reason)
    rejected.recorded = True
    return rejected


def _unavailable() -> Unavailable:
    """Nothing was decided yet; a reservation that did get through is found by the next request with the key."""
    return Unavailable("The idempotency key could not be kept", hint="Send the request again.")
