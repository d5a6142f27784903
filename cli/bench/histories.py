"""A log full of histories, for replay and as-of: made by the domain's own rules, appended without a control plane.

Every server is created and then stopped, started, locked and unlocked in turn, so that each commit is one that a
control plane could have made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import msgspec

from cli.bench.plan import Plan
from domain import decide
from domain.decide import Context, StepOutcome
from domain.server import FlavorSnapshot, Server, ServerEvent, encode_body, encode_server, evolve
from eventlog.envelope import Actor, Event, Meta, Recorded
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats

WRITERS = 64
PORTION = 256
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
FLAVOR = FlavorSnapshot(id="1", name="m1.nano", vcpus=1, ram=96, disk=1)
ACTOR = Actor(user_id="bench", user_name="bench", project_id="bench", roles=("member",))
CYCLE = ("stop", "start", "lock", "unlock")


@dataclass
class Log:
    """A log and the read-model URL that is free beside it. `long_lived`: {events in the history: server id}."""

    log: EventLog
    directory: Path
    events: int
    long_lived: dict[int, str]

    def database(self, name: str) -> str:
        return f"sqlite:///{self.directory / name}.db"


@asynccontextmanager
async def filled(plan: Plan, events: int, *, long_lived: tuple[int, ...] = (), each: int = 20) -> AsyncIterator[Log]:
    """A log of about so many events: servers of `each` events, and one of every length in `long_lived`."""
    with (
        TemporaryDirectory(prefix="chronova-bench-", dir=plan.directory) as directory,
        # How safe the histories are on disk is of no interest here.
        EmbeddedNats.start(Path(directory), sync_interval=None) as server,
    ):
        log = await EventLog.open(server.url, name="bench")
        try:
            plan.say(f"writing {events:,} events")
            ids = await _write(log, [each] * ((events - sum(long_lived)) // each), long_lived)
            yield Log(log, Path(directory), events, ids)
        finally:
            await log.close()


async def _write(log: EventLog, lengths: list[int], long_lived: tuple[int, ...]) -> dict[int, str]:
    """Short histories beside each other; the commits of the long ones scattered evenly among them."""
    stories = {length: _Story(log) for length in long_lived}
    for start in range(0, len(lengths), PORTION):
        portion = iter(lengths[start : start + PORTION])
        await asyncio.gather(*(_write_some(log, portion) for _ in range(WRITERS)))
        share = min(1.0, (start + PORTION) / len(lengths))
        await asyncio.gather(*(story.tell_until(round(share * length)) for length, story in stories.items()))
    return {length: story.id for length, story in stories.items()}


async def _write_some(log: EventLog, lengths: Iterator[int]) -> None:
    for length in lengths:
        await _Story(log).tell_until(length)


class _Story:
    """A server's history as far as it was written."""

    def __init__(self, log: EventLog) -> None:
        self.id = str(uuid4())
        self._log = log
        self._commits = _history(self.id)
        self._newest: Recorded | None = None

    async def tell_until(self, events: int) -> None:
        while self._newest is None or self._newest.commit.version < events:
            at, server, happened = next(self._commits)
            self._newest = await self._log.append(
                "server",
                self.id,
                expected=self._newest,
                events=[Event(type=event.type, data=msgspec.Raw(encode_body(event))) for event in happened],
                state=encode_server(server),
                meta=Meta(actor=ACTOR, request_id=happened[0].body.request_id, occurred_at=at),
            )


def _history(id: str) -> Iterator[tuple[datetime, Server, list[ServerEvent]]]:
    """The commits of a server's life, without end: when, the state after it, its events."""
    server, at = Server(id=id), BEGINNING
    new = decide.NewServer(
        id=id,
        name="bench",
        project_id="bench",
        user_id="bench",
        flavor=FLAVOR,
        hostname="bench",
        instance_name="instance-bench",
        reservation_id="r-bench",
        networks=(),
    )
    for command in chain(("create",), cycle(CYCLE)):
        at += timedelta(seconds=1)
        context = Context(now=at, request_id=f"req-{uuid4()}", user_id="bench", project_id="bench")
        events = decide.create(new, context) if command == "create" else decide.accept(server, command, {}, context)
        while events:
            for event in events:
                server = evolve(server, event, at)
            yield at, server, events
            operation = server.operation
            if operation is None:
                break
            found = {"host": "host-1", "host_id": "bench"} if operation.step == "schedule" else {}
            outcome = StepOutcome(step=operation.step or "", succeeded=True, patch=found, host="host-1")
            events = decide.advance(server, outcome, at)
