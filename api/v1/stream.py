"""GET /v1/events/stream: the log as server-sent events, as it grows, one CloudEvent per message.

A message's `id` is the position of its commit, whose events are written in one go. A reader that reconnects sends the
last one as `Last-Event-ID` and goes on after that commit. Who may have been cut off in its middle and wants the rest of
it sends the id of the last event instead, `<position>.<index>`, in the same header or as `after`. Without either a
stream begins now, and says where that is with an `id` before its first message.

A comment every 15 s says that the line is alive. Bounded: `MAX_STREAMS` per process, and a reader that does not read
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
from api.v1.places import Place, parse_place
from api.v1.scope import only_known, owner_of, sees
from domain.errors import Unavailable
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

    Filters as in GET /v1/events; resumes after `Last-Event-ID`, or `after`: the id of an event, or a position.
    """
    if len(_open) >= MAX_STREAMS:
        raise Unavailable("Too many streams are open", hint="Close one, or try again in a moment.", reason="streams")
    only_known(request, *FILTERS, "after")
    at, who = services(request), caller(request)
    wanted = event_filter(request)
    after = _start(request) or Place(await at.log.last_position())
    return StreamingResponse(
        _messages(at, who, wanted, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _start(request: Request) -> Place | None:
    """What a browser had last counts for more than the address that it opened once."""
    if last := request.headers.get("last-event-id"):
        return parse_place(last, "Last-Event-ID")
    after = request.query_params.get("after")
    return None if after is None else parse_place(after, "after")


async def _messages(at: Services, who: Caller, wanted: EventFilter, after: Place) -> AsyncIterator[bytes]:
    ending = asyncio.Event()
    _open.add(ending)
    source = _commits(at, wanted, after.commits_before)
    end, step = asyncio.ensure_future(ending.wait()), asyncio.ensure_future(anext(source))
    try:
        yield f"retry: {RETRY_MILLISECONDS}\nid: {after}\n\n".encode()
        while True:
            done, _ = await asyncio.wait((end, step), timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if end in done or not await _still_welcome(at, who):
                return
            if not done:
                yield b": alive\n\n"
                continue
            recorded = step.result()
            step = asyncio.ensure_future(anext(source))
            if chunk := _chunk(recorded, who, wanted, after):
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


def _chunk(recorded: Recorded, who: Caller, wanted: EventFilter, after: Place) -> bytes:
    if not (who.is_admin or sees(who, owner_of(recorded.commit))):
        return b""
    return b"".join(
        b"id: %d\ndata: %s\n\n" % (recorded.position, _encode(event))
        for index, event in enumerate(cloud_events(recorded, who))
        if after.is_before(recorded.position, index) and wanted.admits(event, recorded)
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
