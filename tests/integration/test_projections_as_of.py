"""What was true at a position or a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from domain.server import Server, decode_server
from eventlog.log import EventLog
from projections.as_of import difference, parse_moment, server_at
from projections.as_of_list import servers_at
from projections.projector import Projector
from projections.query import InvalidQuery, ServerQuery
from projections.read_model import ReadModel
from tests.projections_samples import LARGE, SMALL, World, append_all, lively


@pytest.fixture
def world() -> World:
    return lively()


@pytest.fixture
async def read(world: World, event_log: EventLog, database_url: str) -> AsyncIterator[ReadModel]:
    projector = await Projector.start(event_log, database_url)
    model = await ReadModel.open(database_url)
    await append_all(event_log, world)
    assert await model.wait_for(len(world.log), 60)
    yield model
    await projector.stop()
    await model.close()


async def test_every_position_and_time_gives_the_fold_up_to_it(
    world: World, event_log: EventLog, read: ReadModel
) -> None:
    ids = list(world.servers)
    expected: dict[str, tuple[Server, int] | None] = dict.fromkeys(ids)
    for recorded in world.log:
        commit = recorded.commit
        if commit.kind == "server":
            expected[commit.id] = decode_server(commit.state), recorded.position
        for id in ids:
            for moment in (recorded.position, commit.meta.occurred_at):
                found = await server_at(read, event_log, id, moment)
                assert (None if found is None else (found[0], found[1].position)) == expected[id]


async def test_a_time_between_two_commits_is_the_earlier_one(
    world: World, event_log: EventLog, read: ReadModel
) -> None:
    id = next(iter(world.servers))
    commits = [recorded for recorded in world.log if recorded.commit.id == id]
    before = commits[1].commit.meta.occurred_at - timedelta(microseconds=1)
    found = await server_at(read, event_log, id, before)
    assert found is not None
    assert found[1].position == commits[0].position
    assert await server_at(read, event_log, id, commits[0].commit.meta.occurred_at - timedelta(seconds=1)) is None
    future = await server_at(read, event_log, id, 10**9)
    assert future is not None
    assert future[0] == world.servers[id]


def test_difference_names_the_fields_that_changed() -> None:
    before = Server(id="s", name="a", flavor=SMALL, tags=("x",), metadata={"k": "1"})
    after = Server(id="s", name="b", flavor=LARGE, tags=("x", "y"), metadata={})
    changed = difference(before, after)
    assert changed["name"] == ("a", "b")
    assert changed["flavor.ram"] == (SMALL.ram, LARGE.ram)
    assert changed["tags"] == (["x"], ["x", "y"])
    assert changed["metadata.k"] == ("1", None)
    assert "vm_state" not in changed
    assert difference(before, before) == {}
    assert difference(None, after)["name"] == (None, "b")


def test_moments_are_read_as_people_write_them() -> None:
    assert parse_moment("42") == 42
    assert parse_moment("2026-03-01T12:00:00Z") == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert parse_moment("2026-03-01 12:00") == datetime(2026, 3, 1, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="yesterday"):
        parse_moment("yesterday")


async def listed(
    read: ReadModel, log: EventLog, moment: int | datetime, most: int = 1000, **wanted: object
) -> list[Server]:
    """Every page of a list, each of at most three servers."""
    query, pages = ServerQuery(**({"deleted": None, "limit": 3} | wanted)), 0  # type: ignore[arg-type]  # each has the type of its field
    found: list[Server] = []
    while True:
        page = await servers_at(read, log, query, moment, most=most)
        found += page.servers
        pages += 1
        assert len(page.servers) <= 3
        assert pages <= 100
        if page.next_marker is None:
            return found
        query = replace(query, marker=page.next_marker)


async def test_a_list_at_every_position_and_time_is_the_fold_up_to_it(
    world: World, event_log: EventLog, read: ReadModel
) -> None:
    expected: dict[str, Server] = {}
    for recorded in world.log:
        commit = recorded.commit
        if commit.kind == "server":
            expected[commit.id] = decode_server(commit.state)
        if recorded.position % 7 and recorded.position != len(world.log):
            continue
        for moment in (recorded.position, commit.meta.occurred_at):
            found = await listed(read, event_log, moment)
            assert {server.id: server for server in found} == expected
            assert len(found) == len(expected)
    newest_first = sorted(expected.values(), key=lambda one: (one.created_at, one.id), reverse=True)
    assert await listed(read, event_log, len(world.log)) == newest_first


async def test_the_filters_of_a_list_hold_of_what_was_then(world: World, event_log: EventLog, read: ReadModel) -> None:
    moment, then = next(
        (recorded.position, server)
        for recorded in world.log
        if recorded.commit.kind == "server"
        and (server := decode_server(recorded.commit.state)).vm_state == "active"
        and server.host is not None
    )
    everything = await listed(read, event_log, moment)
    for wanted, holds in (
        ({"project_id": then.project_id}, lambda one: one.project_id == then.project_id),
        ({"project_id": "nobody"}, lambda one: False),
        ({"host": then.host}, lambda one: one.host == then.host),
        ({"name_regex": f"^{then.name}$"}, lambda one: one.name == then.name),
        ({"states": (("active", None),)}, lambda one: one.vm_state == "active"),
        (
            {"states": (("active", ("rebooting",)),)},
            lambda one: (one.vm_state, one.task_state) == ("active", "rebooting"),
        ),
        ({"deleted": False}, lambda one: not one.deleted),
    ):
        for most in (1000, 1):  # however few are looked at for a page, all of them come
            assert await listed(read, event_log, moment, most, **wanted) == [one for one in everything if holds(one)]
    for pattern in ("[", "x" * 256):
        with pytest.raises(InvalidQuery):
            await listed(read, event_log, moment, name_regex=pattern)
