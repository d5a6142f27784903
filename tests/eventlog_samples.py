"""Small commits for the tests of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client

from eventlog import checkpoint
from eventlog.envelope import Actor, Event, Meta, Recorded
from eventlog.errors import Conflict
from eventlog.log import EventLog

META = Meta(
    actor=Actor("u-1", "ada", "p-1", "demo", ("member",), "192.0.2.7"),
    request_id="req-1",
    occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
)


def events(*types: str) -> list[Event]:
    return [Event(type, 1, msgspec.Raw(b'{"n":1}')) for type in types or ("server.stop.accepted",)]


async def append(
    log: EventLog, id: str, expected: Recorded | None, *types: str, kind: str = "server", cid: str | None = None
) -> Recorded:
    return await log.append(
        kind, id, expected=expected, events=events(*types), state=b'{"vm_state":"active"}', meta=META, cid=cid
    )


async def append_many(log: EventLog, id: str, count: int, kind: str = "server") -> list[Recorded]:
    """An aggregate with this many commits."""
    commits: list[Recorded] = []
    for _ in range(count):
        commits.append(await append(log, id, commits[-1] if commits else None, kind=kind))
    return commits


def new_id() -> str:
    return str(uuid4())


async def make_checkpoint(log: EventLog, key: Ed25519PrivateKey) -> Recorded | None:
    """What the command side does with a draft."""
    draft = await checkpoint.draft(log, key)
    if draft is None:
        return None
    try:
        return await log.append(
            checkpoint.KIND,
            checkpoint.ID,
            expected=draft.after,
            events=[draft.event],
            state=draft.state,
            meta=META,
        )
    except Conflict as conflict:
        return conflict.current


async def until_it_listens(client: Client) -> None:
    """Wait until the server has taken every subscription that this connection made.

    nats-py's `flush` puts its PING in front of what still waits to be sent, so one PONG proves nothing about a SUB that
    was just asked for. By the time it arrives the SUB has gone out: the second PING follows it.
    """
    await client.flush()
    await client.flush()
