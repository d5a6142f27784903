"""Refusals are kept too: who asked for what, and why it was not done.

They go to a stream of their own, bounded in age and number. A refusal of the command side is stored before it is told,
as long as that takes at most `STORE_SECONDS`; it never fails the answer that the caller waits for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from commands.context import CommandContext
from domain.errors import Rejected
from eventlog.envelope import Actor

SECRET_PARAMS = frozenset(
    {
        *("password", "admin_password", "adminpass", "original_password", "password_hash"),
        *("user_data", "personality", "private_key", "secret", "secret_hash", "auth", "credentials"),
    }
)
MAX_PARAMS = 8192  # bytes of parameters kept
MAX_TEXT = 2048  # characters of an id or a message kept
STORE_SECONDS = 1.0
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,255}")


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    at: datetime
    kind: str
    id: str
    command: str
    actor: Actor
    request_id: str
    code: int
    reason: str
    message: str
    hint: str = ""
    params: dict[str, Any] = {}


@contextmanager
def about(kind: str, id: str, verb: str) -> Iterator[None]:
    """Refusals raised inside say what they are about; the boundary that answers with one records it."""
    try:
        yield
    except Rejected as rejected:
        rejected.about = rejected.about or (kind, id, verb)
        raise


def redact(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as they may be shown: no secrets, no more than `MAX_PARAMS` bytes."""
    shown: dict[str, Any] = _redacted(params)
    if len(msgspec.json.encode(shown)) > MAX_PARAMS:
        return {"(shortened)": sorted(shown)}
    return shown


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "(redacted)" if str(key).lower() in SECRET_PARAMS else _redacted(item) for key, item in value.items()
        }
    return [_redacted(item) for item in value] if isinstance(value, list | tuple) else value


async def record(
    client: Client,
    kind: str,
    id_: str,
    command: str,
    params: dict[str, Any],
    context: CommandContext,
    rejected: Rejected,
    at: datetime,
) -> None:
    """Keep a refusal, once. An id that is no subject token (or none) stands in the record alone."""
    rejected.recorded = True
    token = id_ if _TOKEN.fullmatch(id_) else "none"
    rejection = Rejection(
        at=at,
        kind=kind,
        id=id_[:MAX_TEXT],
        command=command,
        actor=context.actor,
        request_id=context.request_id,
        code=rejected.code,
        reason=rejected.reason,
        message=rejected.message[:MAX_TEXT],
        hint=rejected.advice,
        params=redact(params),
    )
    try:
        # The answer to it is the stream's acknowledgement.
        await client.request(f"rejected.{kind}.{token}", msgspec.json.encode(rejection), timeout=STORE_SECONDS)
    except (NatsError, ValueError):
        return  # no connection, or too large: the caller's answer matters more
