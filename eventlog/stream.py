"""The stream that holds the log: how it is made, and what it must be like to be trusted.

Append-only: nothing expires, nothing is deleted or purged, a full disk refuses new commits instead of dropping old
ones. `ensure_stream` creates the stream if there is none and refuses one that could lose or change commits.

On a cluster of servers a stream has as many replicas as it is told to have (`create`, `replicate`); of three, one may
be lost at any moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from eventlog.errors import LogUnavailable, StreamMismatch

# The log never relies on the server's de-duplication, whose answers differ between versions; a short window keeps the
# server from remembering message ids.
DUPLICATE_WINDOW_SECONDS = 1.0
MAX_COMMIT_BYTES = 1 << 20
# The server counts a message's headers too.
MAX_HEADER_BYTES = 1 << 10
PAUSE_SECONDS = 0.1
SERVERS_SECONDS = 3.0
# What JetStream says when there are fewer servers than replicas: in a cluster (some may still be coming), alone.
NO_PEERS = 10005
NOT_CLUSTERED = 10074


def stream_config(name: str, prefix: str, replicas: int) -> StreamConfig:
    return StreamConfig(
        name=name,
        description="chronova: every commit, in order, for ever",
        subjects=[f"{prefix}.>"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_age=0,
        max_bytes=-1,
        max_msgs=-1,
        max_msgs_per_subject=-1,
        max_msg_size=MAX_COMMIT_BYTES + MAX_HEADER_BYTES,
        deny_delete=True,
        deny_purge=True,
        allow_rollup_hdrs=False,
        allow_direct=True,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        num_replicas=replicas,
    )


def mismatches(have: StreamConfig, want: StreamConfig) -> list[str]:
    """What makes an existing stream unfit for the log, in words; empty if it is fit."""
    unlimited = (None, 0, -1)
    rules = [
        (have.subjects == want.subjects, f"subjects are {have.subjects}, not {want.subjects}"),
        (have.storage == StorageType.FILE, "it is kept in memory"),
        (have.retention == RetentionPolicy.LIMITS, f"retention is {have.retention}"),
        (have.discard == DiscardPolicy.NEW, "a full stream would drop old commits"),
        (have.max_age in unlimited, "commits would expire"),
        (have.max_msgs in unlimited and have.max_msgs_per_subject in unlimited, "the number of commits is limited"),
        (bool(have.deny_delete), "commits could be deleted"),
        (bool(have.deny_purge), "commits could be purged"),
        (not have.allow_rollup_hdrs, "a message could replace older ones (rollup)"),
        (bool(have.allow_direct), "direct get is off"),
    ]
    return [what for holds, what in rules if not holds]


async def ensure_stream(
    js: JetStreamContext, name: str, prefix: str, replicas: int | None, timeout: float, *, create: bool = True
) -> StreamInfo:
    """Create the stream (unless told not to), or check the one that is there. Raises StreamMismatch, LogUnavailable.

    `replicas` is also given to a stream that has another number; None leaves it as it is.
    """
    want = stream_config(name, prefix, replicas or 1)
    try:
        async with asyncio.timeout(timeout):
            info = await _find_or_create(js, want, replicas, create)
    except TimeoutError as error:
        raise LogUnavailable(f"JetStream did not answer within {timeout:g} s about the stream {name}") from error
    wrong = mismatches(info.config, want)
    if wrong:
        raise StreamMismatch(f"the stream {name} can not be used as the log: {'; '.join(wrong)}")
    return info


async def _find_or_create(
    js: JetStreamContext, want: StreamConfig, replicas: int | None, may_create: bool
) -> StreamInfo:
    assert want.name is not None
    while True:
        try:
            info = await js.stream_info(want.name)
            await replicate(js, info.config, replicas)
            return info
        except NotFoundError as error:
            if not may_create:
                raise StreamMismatch(f"there is no log at this NATS server: it has no stream {want.name}") from error
            # Two processes may create it at once: the request is the same, and the server takes it twice.
            return await create(js, want)
        except (ServiceUnavailableError, NoRespondersError, NatsTimeoutError):
            # JetStream is still starting, or a cluster has no leader yet.
            await asyncio.sleep(PAUSE_SECONDS)


async def create(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    """A new stream. Raises StreamMismatch if there are too few servers for its replicas, nats.js.errors.Error."""
    return await _on_enough_servers(config, js.add_stream)


async def replicate(js: JetStreamContext, found: StreamConfig, replicas: int | None) -> None:
    """Give a stream that is there so many replicas; None: as it is. Raises as `create` does."""
    if replicas is not None and (found.num_replicas or 1) != replicas:
        found.num_replicas = replicas
        await _on_enough_servers(found, js.update_stream)


async def _on_enough_servers(
    config: StreamConfig, request: Callable[[StreamConfig], Awaitable[StreamInfo]]
) -> StreamInfo:
    """Ask until the servers of a cluster that starts have found each other."""
    give_up = time.monotonic() + SERVERS_SECONDS
    while True:
        try:
            return await request(config)
        except APIError as error:
            if error.err_code not in (NO_PEERS, NOT_CLUSTERED):
                raise
            if error.err_code == NOT_CLUSTERED or time.monotonic() > give_up:
                raise StreamMismatch(
                    f"the stream {config.name} can not have {config.num_replicas} replicas: NATS has too few servers "
                    f"with JetStream ({error.description}); --replicas {config.num_replicas} needs a cluster of them"
                ) from error
        await asyncio.sleep(PAUSE_SECONDS)
