"""Commits for the tests of the projections: real decisions of the domain, as they would stand in the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select, text

from domain import decide, resources
from domain.decide import Context, StepOutcome
from domain.orders import Fault
from domain.server import FixedIp, FlavorSnapshot, Interface, Server, ServerEvent, encode_body, encode_server, evolve
from eventlog import envelope
from eventlog.envelope import Actor, Commit, Event, Meta, Recorded
from eventlog.log import EventLog
from projections.database import SCHEMA, connect, create_tables
from projections.schema import LOG_TABLES
from projections.writer import Writer

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ADA = Actor("u-ada", "ada", "p-demo", "demo", ("member",), "192.0.2.7")
CONDUCTOR = Actor("conductor", "conductor")
SMALL = FlavorSnapshot(id="1", name="m1.small", vcpus=1, ram=512, disk=10)
LARGE = FlavorSnapshot(id="2", name="m1.large", vcpus=4, ram=2048, disk=40)


class World:
    """A little cloud, whose commits are kept in the order of the log. Everything in it is repeatable."""

    def __init__(self) -> None:
        self.log: list[Recorded] = []
        self.servers: dict[str, Server] = {}
        self.resources: dict[tuple[str, str], resources.Resource] = {}
        self._newest: dict[tuple[str, str], Recorded] = {}
        self._ids = 0

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=len(self.log), microseconds=len(self.log))

    def new_id(self) -> str:
        self._ids += 1
        return str(UUID(int=(self._ids * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128))

    def create(
        self, name: str = "web", *, project_id: str = "p-demo", flavor: FlavorSnapshot = SMALL, **fields: Any
    ) -> str:
        """The id of a server whose creation was accepted."""
        id = self.new_id()
        new = decide.NewServer(
            id=id,
            name=name,
            project_id=project_id,
            user_id="u-ada",
            flavor=flavor,
            hostname=name,
            instance_name="instance-0000002a",
            reservation_id="r-1",
            image_id=fields.pop("image_id", "i-tiny"),
            **fields,
        )
        context = self._context(project_id)
        events = decide.create(new, context)
        self.servers[id] = Server(id=id)
        self.commit_server(id, events, actor=ADA, request_id=context.request_id)
        return id

    def active(self, name: str = "web", host: str = "host-1", **fields: Any) -> str:
        """The id of a server that was created and runs."""
        id = self.create(name, **fields)
        self.finish(id, host=host)
        return id

    def do(self, id: str, command: str, **params: Any) -> str:
        """Accept a command; the request id."""
        context = self._context(self.servers[id].project_id)
        events = decide.accept(self.servers[id], command, params, context)
        self.commit_server(id, events, actor=ADA, request_id=context.request_id)
        return context.request_id

    def finish(self, id: str, *, host: str = "host-1", fail_at: str = "") -> None:
        """Let all steps of the operation in progress end well, but for one."""
        for _ in range(60):
            operation = self.servers[id].operation
            if operation is None or operation.stuck:
                return
            self.step(id, host=host, succeeded=operation.step != fail_at)
        raise AssertionError(f"{id} did not finish")

    def step(
        self, id: str, *, host: str = "host-1", succeeded: bool = True, patch: dict[str, Any] | None = None
    ) -> None:
        server = self.servers[id]
        assert server.operation is not None
        found = dict(patch or {})
        if server.operation.step == "schedule":
            found |= {"host": host, "host_id": "h", "availability_zone": "nova"}
        if server.operation.step == "create_ports":
            number = len(self.log) % 250
            found["interfaces"] = (
                Interface("port", "net", "private", "fa:16:3e:00:00:01", (FixedIp(f"10.0.0.{number}", "subnet"),)),
            )
        outcome = StepOutcome(
            step=server.operation.step,
            succeeded=succeeded,
            patch=found if succeeded else {},
            fault=None if succeeded else Fault("broken", "it broke", "the details"),
            details={"seen": True},
            host=host,
        )
        self.commit_server(id, decide.advance(server, outcome, self.now))

    def observe(self, id: str, power_state: str, reason: str = "guest powered itself off") -> None:
        events = decide.observe(self.servers[id], power_state, reason, f"req-seen-{len(self.log)}", self.now)
        self.commit_server(id, events)

    def commit_server(
        self, id: str, events: list[ServerEvent], *, actor: Actor = CONDUCTOR, request_id: str = ""
    ) -> Recorded | None:
        if not events:
            return None
        server = self.servers[id]
        for event in events:
            server = evolve(server, event, self.now)
        self.servers[id] = server
        stored = [Event(event.type, 1, msgspec.Raw(encode_body(event))) for event in events]
        request = request_id or events[0].body.request_id
        return self._append("server", id, stored, encode_server(server), actor=actor, request_id=request)

    def change(self, kind: str, id: str | None = None, verb: str = "create", **fields: Any) -> str:
        """Create or change a resource; its id."""
        id = id or self.new_id()
        change = resources.ResourceChange(fields)
        state = resources.evolve(kind, self.resources.get((kind, id)), id, change, self.now)
        self.resources[kind, id] = state
        event = Event(f"{kind}.{verb}.succeeded", 1, msgspec.Raw(msgspec.json.encode(change)))
        self._append(kind, id, [event], resources.encode(state), actor=ADA, request_id=f"req-{len(self.log)}")
        return id

    def _context(self, project_id: str) -> Context:
        return Context(now=self.now, request_id=f"req-{len(self.log)}", user_id="u-ada", project_id=project_id)

    def _append(
        self, kind: str, id: str, events: list[Event], state: bytes, *, actor: Actor, request_id: str
    ) -> Recorded:
        before = self._newest.get((kind, id))
        commit = Commit(
            cid=f"c-{len(self.log)}",
            kind=kind,
            id=id,
            version=(before.commit.version if before else 0) + len(events),
            meta=Meta(
                actor,
                request_id,
                self.now,
                correlation_id=request_id,
                causation_id=str(before.position) if before else "",
            ),
            events=events,
            state=msgspec.Raw(state),
            prev=before.hash if before else "",
        )
        digest, raw = envelope.encode(commit)
        recorded = Recorded(len(self.log) + 1, digest, commit, raw)
        self.log.append(recorded)
        self._newest[kind, id] = recorded
        return recorded


def lively() -> World:
    """A world in which all that the projections know of has happened."""
    world = World()
    world.change("flavor", name="m1.small", vcpus=1, ram=512, disk=10, flavor_id="1")
    host = world.change("host", name="host-1", vcpus=8, memory_mb=16384, disk_gb=200, up=True)
    network = world.change("network", name="private", project_id="p-demo")
    port = world.change("port", network_id=network, mac="fa:16:3e:00:00:02", project_id="p-demo", device_id="s")
    web = world.active("web", tags=("blue", "old"))
    world.do(web, "stop")
    world.step(web)
    broken = world.create("broken")
    world.finish(broken, fail_at="spawn")
    world.do(web, "start")
    world.change("port", port, "update", device_id="", status="ACTIVE")
    world.finish(web)
    world.do(web, "lock", reason="mine")
    world.do(web, "unlock")
    world.do(web, "update", name="web-2")
    world.observe(web, "shutdown")
    world.do(web, "resize", flavor=msgspec.to_builtins(LARGE))
    world.change("host", host, "update", disabled=True)
    world.finish(web)
    other = world.active("other", project_id="p-other")
    world.do(other, "pause")
    world.finish(other, fail_at="pause")
    world.do(other, "delete")
    world.finish(other)
    world.change("port", port, "delete", deleted=True)
    world.create("half")
    return world


def spelled(log: list[Recorded], mark: bytes) -> list[Recorded]:
    """The lively world's commits, with a mark in names, hosts, requests, people, tags and faults."""
    spelt = []
    for one in log:
        raw = one.raw
        for word in (b'"ada"', b'"web', b'"m1.small', b"host-", b"req-", b"it broke", b"blue"):
            raw = raw.replace(word, word[:2] + mark + word[2:])
        spelt.append(envelope.decode(one.position, envelope.subject_of(one.commit.kind, one.commit.id), raw))
    return spelt


def fill(url: str, log: list[Recorded], sizes: list[int] | None = None) -> None:
    """Make the tables at `url` and write the commits in batches of these sizes (the last one for all the rest)."""
    engine = connect(url)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text(f"create schema {SCHEMA}"))
    with engine.begin() as connection:
        create_tables(connection)
    writer = Writer(engine)
    writer.load()
    left, sizes = list(log), list(sizes or [len(log)])
    while left:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        batch, left = left[:size], left[size:]
        writer.apply(batch)
    writer.close()
    engine.dispose()


def all_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that the log gives, in the order of keys."""
    engine = connect(url)
    with engine.connect() as connection:
        rows = {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in LOG_TABLES
        }
    engine.dispose()
    return rows


async def append_all(log: EventLog, world: World, start: int = 0) -> int:
    """Put the world's commits into a real log, in order; the last position."""
    newest: dict[tuple[str, str], Recorded] = {}
    position = 0
    for recorded in world.log[start:]:
        commit = recorded.commit
        key = (commit.kind, commit.id)
        expected = newest.get(key) or (await log.last(*key) if start else None)
        newest[key] = await log.append(
            *key, expected=expected, events=commit.events, state=bytes(commit.state), meta=commit.meta, cid=commit.cid
        )
        position = newest[key].position
    return position
