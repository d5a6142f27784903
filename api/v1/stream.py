"""GET /v1/events/stream: the log as server-sent events, as it grows, one CloudEvent per message.

`id` is the position of the commit. A reader that reconnects sends the last one as `Last-Event-ID` and goes on after
it; the messages of one commit are written in one piece. Without `Last-Event-ID` (or `?after=`) a stream begins now. A
comment every 15 s says that the line is alive. Bounded: `MAX_STREAMS` per process, and a reader that does not read
keeps nothing here but one batch, because the log's feed waits for it. A connection to the log that breaks is mended
behind the scenes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.http import caller, services
from api.v1.cloudevents import cloud_events
from api.v1.filters import FILTERS, EventFilter, event_filter
from api.v1.scope import only_known, owner_of, sees
from domain.errors import Invalid, Unavailable
from eventlog.envelope import Recorded, subject_of
from eventlog.errors import LogUnavailable
from eventlog.feed import FeedBroken
from eventlog.mux import NoAnswer

if TYPE_CHECKING:
    from api.auth import Caller
    from api.services import Services

HEARTBEAT_SECONDS = 15.0
MAX_STREAMS = 256
BATCH = 100
PAUSE_SECONDS = 0.5
RETRY_MILLISECONDS = 2000

_encode = msgspec.json.Encoder().encode
_open: set[asyncio.Event] = set()


def end_streams() -> None:
    """End every open stream of this process cleanly: it shuts down, and they would keep it from it."""
    for ending in _open:
        ending.set()


async def stream(request: Request) -> Response:
    """Follow events as they happen (server-sent events)

    Filters as in GET /v1/events; resumes after `Last-Event-ID`.
    """
    if len(_open) >= MAX_STREAMS:
        raise Unavailable("Too many streams are open", hint="Close one, or try again in a moment.", reason="streams")
    only_known(request, *FILTERS, "after")
    at, who = services(request), caller(request)
    wanted = event_filter(request)
    after = _start(request)
    if after is None:
        after = await at.log.last_position()
    return StreamingResponse(
        _messages(at, who, wanted, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _start(request: Request) -> int | None:
    text = request.headers.get("last-event-id") or request.query_params.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(f"{text!r} is no position", hint="Send the id of the last event that you have.")
    return int(text)


async def _messages(at: Services, who: Caller, wanted: EventFilter, after: int) -> AsyncIterator[bytes]:
    ending = asyncio.Event()
    _open.add(ending)
    source = _commits(at, wanted, after)
    end, step = asyncio.ensure_future(ending.wait()), asyncio.ensure_future(anext(source))
    try:
        yield f"retry: {RETRY_MILLISECONDS}\n: at {after}\n\n".encode()
        while True:
            done, _ = await asyncio.wait((end, step), timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if end in done or not await _still_welcome(at, who):
                return
            if not done:
                yield b": alive\n\n"
                continue
            recorded = step.result()
            step = asyncio.ensure_future(anext(source))
            if chunk := _chunk(recorded, who, wanted):
                yield chunk
    finally:
        _open.discard(ending)
        end.cancel()
        step.cancel()
        await asyncio.gather(end, step, return_exceptions=True)
        await source.aclose()


async def _still_welcome(at: Services, who: Caller) -> bool:
    """A revoked or expired token ends its streams too. The check is a look into a dict most of the time."""
    return (at.tokens.cached(who.token) or await at.tokens.check(who.token)) is not None


def _chunk(recorded: Recorded, who: Caller, wanted: EventFilter) -> bytes:
    if not (who.is_admin or sees(who, owner_of(recorded.commit))):
        return b""
    return b"".join(
        b"id: %d\ndata: %s\n\n" % (recorded.position, _encode(event))
        for event in cloud_events(recorded, who)
        if wanted.admits(event, recorded)
    )


async def _commits(at: Services, wanted: EventFilter, after: int) -> AsyncGenerator[Recorded, None]:
    """Every commit after a position that the filter may want, for ever."""
    log = at.log
    subject = subject_of("server", wanted.server_id, log.prefix) if wanted.server_id else log.subject(wanted.kind)
    while True:
        try:
            async with log.feed(subject, after=after) as feed:
                while True:
                    for message in await feed.batch(BATCH):
                        yield log.decode(message)
                        after = message.position
        except (FeedBroken, NoAnswer, LogUnavailable):
            await asyncio.sleep(PAUSE_SECONDS)
