"""A log on three servers: one is lost without notice, commands go on, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import pytest
from click.testing import CliRunner
from nats.errors import Error as NatsError
from nats.js.api import StreamInfo

from cli.commands_run import up
from commands.context import Answer
from commands.streams import CONFIGS, ensure_streams
from domain.errors import Unavailable
from domain.server import decode_server
from eventlog.envelope import subject_of
from eventlog.errors import LogUnavailable, StreamMismatch
from eventlog.log import DEFAULT_STREAM, EventLog
from eventlog.nats_server import EmbeddedNats
from eventlog.verify import ChainVerifier
from tests.nats_cluster import cluster
from tests.system import WAIT_SECONDS, System, context, new_server

T = TypeVar("T")
STREAMS = (DEFAULT_STREAM, *(str(config.name) for config in CONFIGS))


async def taken(command: Callable[[], Awaitable[T]]) -> T:
    """Ask until NATS has somebody who answers; a command with an idempotency key is done once."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                return await command()
            except (Unavailable, NatsError):
                await asyncio.sleep(0.1)


async def opened(urls: list[str], replicas: int | None = None) -> EventLog:
    """The log, as soon as the servers have found each other."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                return await EventLog.open(urls, replicas=replicas)
            except (LogUnavailable, StreamMismatch):
                await asyncio.sleep(0.1)


async def streams(log: EventLog) -> dict[str, StreamInfo]:
    return {name: await taken(partial(log.js.stream_info, name)) for name in STREAMS}


async def until_replicated(log: EventLog, replicas: int) -> dict[str, StreamInfo]:
    """Wait until every stream has so many copies, each with all that the leader has."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found = await streams(log)
            led = [info.cluster for info in found.values() if info.cluster is not None and info.cluster.leader]
            copies = [1 + sum(bool(one.current) for one in cluster.replicas or ()) for cluster in led]
            if copies == [replicas] * len(STREAMS):
                return found
            await asyncio.sleep(0.1)


async def carried_out(system: System, command: str, server_id: str) -> None:
    given = context(idempotency_key=command)
    answer = await taken(partial(system.commands.server, command, server_id, {}, given))
    await settled(system, answer)


async def created(system: System, name: str) -> str:
    [answer] = await taken(partial(system.commands.create_servers, [new_server(name)], context(idempotency_key=name)))
    await settled(system, answer)
    return answer.server_id


async def settled(system: System, answer: Answer) -> None:
    """Wait for the end of what was accepted. Any of the three may be asked, and one may be a moment behind."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            server = await taken(partial(system.commands.load_server, answer.server_id))
            if server is not None and server.version >= answer.version and server.operation is None:
                return
            await asyncio.sleep(0.05)


async def state_of(system: System, server_id: str) -> str:
    newest = await system.log.last_from_leader("server", server_id)
    assert newest is not None
    return decode_server(newest.commit.state).vm_state


async def chain_of(log: EventLog) -> list[str]:
    """The types of all events, every commit of the log held against the chain of hashes."""
    verifier, types = ChainVerifier(), []
    async for batch in log.scan():
        for one in batch:
            subject = subject_of(one.commit.kind, one.commit.id)
            assert verifier.check(one.position, subject, one.raw) is None
            types += [event.type for event in one.commit.events]
    assert await log.last_position() == one.position
    return types


async def test_a_server_of_the_cluster_is_lost_and_nothing_else(tmp_path: Path) -> None:
    with cluster(tmp_path / "nats") as nodes:
        before = await opened([nodes[0].url])
        await taken(partial(ensure_streams, before.js))
        assert {info.config.num_replicas for info in (await streams(before)).values()} == {1}
        await before.close()
        log = await opened([node.url for node in nodes], replicas=3)
        await taken(partial(ensure_streams, log.js, 3))
        found = await until_replicated(log, 3)
        kept = found[DEFAULT_STREAM].cluster
        leader = next(node for node in nodes if kept is not None and node.name == kept.leader)
        await log.close()

        async with System.open(cast(EmbeddedNats, leader), tmp_path) as system:
            first = await created(system, "before")
            leader.kill()
            during = await asyncio.gather(*(created(system, f"during-{number}") for number in range(3)))
            await carried_out(system, "stop", first)
            leader.start()
            leader.wait()
            await carried_out(system, "start", first)
            await until_replicated(system.log, 3)
            types = Counter(await chain_of(system.log))
            ends = {"server.create.succeeded": 4, "server.stop.succeeded": 1, "server.start.succeeded": 1}
            assert {name: types[name] for name in ends} == ends
            assert [await state_of(system, one) for one in (first, *during)] == ["active"] * 4


async def test_too_few_servers_are_told(nats_server: EmbeddedNats) -> None:
    with pytest.raises(StreamMismatch, match="can not have 3 replicas: NATS has too few servers"):
        await EventLog.open(nats_server.url, stream="TOO_FEW", prefix="too-few", replicas=3)
    refused = CliRunner().invoke(up, ["--replicas", "3"])
    assert refused.exit_code == 2
    assert "the embedded NATS is one server" in refused.output
