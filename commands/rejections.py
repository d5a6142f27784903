"""Refusals are kept too: who asked for what, and why it was not done.

They go to a stream of their own, bounded in age and number. Writing one never delays nor fails the answer that the
caller waits for: the message is handed to the connection, which sends it in order with everything else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from commands.context import CommandContext
from domain.errors import Rejected
from eventlog.envelope import Actor

SECRET_PARAMS = frozenset({"password", "admin_password", "user_data", "private_key", "secret"})
MAX_PARAMS = 8192  # bytes of parameters kept


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


def redact(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as they may be shown: no secrets, no more than `MAX_PARAMS` bytes."""
    shown = {key: "(redacted)" if key in SECRET_PARAMS else value for key, value in params.items()}
    if len(msgspec.json.encode(shown)) > MAX_PARAMS:
        return {"(shortened)": sorted(shown)}
    return shown


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
    rejection = Rejection(
        at=at,
        kind=kind,
        id=id_,
        command=command,
        actor=context.actor,
        request_id=context.request_id,
        code=rejected.code,
        reason=rejected.reason,
        message=rejected.message,
        hint=rejected.hint,
        params=redact(params),
    )
    try:
        await client.publish(f"rejected.{kind}.{id_}", msgspec.json.encode(rejection))
    except (NatsError, ValueError):
        return  # an id that is no subject token, or no connection: the caller's answer matters more
