"""What can be asked of the read model, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from projections.queries import EventQuery
from projections.query import InvalidQuery, MarkerNotFound, ServerQuery
from projections.read_model import ReadModel
from projections.rows import host_id
from tests.projections_samples import LARGE, START, World, fill


def _world() -> World:
    world = World()
    world.active("alpha", tags=("blue", "old"), key_name="k1", metadata={"a": "b"})
    world.active("beta", host="host-2", tags=("blue",), flavor=LARGE)
    world.active("gamma_1", project_id="p-other", image_id=None)
    gone = world.active("delta")
    world.do(gone, "delete")
    world.finish(gone)
    world.create("epsilon", access_ip_v4="192.0.2.1")
    stopped = world.active("zeta")
    world.do(stopped, "stop")
    world.do(world.active("eta"), "lock", reason="r")
    return world


@pytest.fixture
def world() -> World:
    return _world()


@pytest.fixture
async def read(world: World, database_url: str) -> AsyncIterator[ReadModel]:
    fill(database_url, world.log)
    model = await ReadModel.open(database_url)
    yield model
    await model.close()


async def names(read: ReadModel, **query: Any) -> list[str]:
    return [server.name for server in await read.servers(ServerQuery(**query))]


NEWEST_FIRST = ["eta", "zeta", "epsilon", "gamma_1", "beta", "alpha"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, NEWEST_FIRST),
        ({"deleted": True}, ["delta"]),
        ({"deleted": None, "gone": True}, ["delta"]),
        ({"deleted": None, "gone": False}, NEWEST_FIRST),
        ({"deleted": None}, ["eta", "zeta", "epsilon", "delta", "gamma_1", "beta", "alpha"]),
        ({"project_id": "p-other"}, ["gamma_1"]),
        ({"host": "host-2"}, ["beta"]),
        ({"hosts": ("host-2", "host-9")}, ["beta"]),
        ({"name_regex": "^(al|be)"}, ["beta", "alpha"]),
        ({"name_regex": "_"}, ["gamma_1"]),
        ({"regex": {"display_name": "eta$"}}, ["eta", "zeta", "beta"]),
        ({"vm_states": ("building",)}, ["epsilon"]),
        ({"task_states": ("powering-off",)}, ["zeta"]),
        ({"vm_states": ("active",), "task_states": (None,)}, ["eta", "gamma_1", "beta", "alpha"]),
        ({"states": (("active", ("powering-off",)), ("building", None))}, ["zeta", "epsilon"]),
        ({"states": ()}, []),
        ({"tags": ("blue",)}, ["beta", "alpha"]),
        ({"tags": ("blue", "old")}, ["alpha"]),
        ({"tags": ("lu",)}, []),
        ({"tags": ("BLUE",)}, []),
        ({"tags": ("%",)}, []),
        ({"tags_any": ("old", "new")}, ["alpha"]),
        ({"not_tags": ("blue", "old")}, ["eta", "zeta", "epsilon", "gamma_1", "beta"]),
        ({"not_tags_any": ("blue",)}, ["eta", "zeta", "epsilon", "gamma_1"]),
        ({"flavor_id": LARGE.id}, ["beta"]),
        ({"flavor_name": "m1.large"}, ["beta"]),
        ({"key_name": "k1"}, ["alpha"]),
        ({"locked": True}, ["eta"]),
        ({"locked": False, "project_id": "p-demo"}, ["zeta", "epsilon", "beta", "alpha"]),
        ({"power_states": ("nostate",)}, ["epsilon"]),
        ({"limit": 2}, ["eta", "zeta"]),
        ({"limit": 0}, []),
        ({"sort": (("display_name", "asc"),), "limit": 3}, ["alpha", "beta", "epsilon"]),
        ({"sort": (("host", "desc"), ("name", "asc"))}, ["beta", "alpha", "eta", "gamma_1", "zeta", "epsilon"]),
        ({"regex": {"access_ip_v4": "192"}}, ["epsilon"]),
        ({"changes_before": START + timedelta(seconds=1)}, []),
    ],
)
async def test_server_filters(read: ReadModel, query: dict[str, Any], expected: list[str]) -> None:
    assert await names(read, **query) == expected
    if "limit" not in query:
        assert await read.servers_count(ServerQuery(**query)) == len(expected)


# Expressions that mean something else, that no engine reads, and that RE2 reads and PostgreSQL does not.
ODD_NAMES = ["web(1)", "a+b", "^x$", "web[1", "a\\", "c++", "(?=a)", "***=b", "web{1", "{1..3}", "\\QeQ\\E", "50%_"]


async def test_every_name_finds_its_server(database_url: str) -> None:
    world = World()
    for name in ODD_NAMES:
        world.active(name)
    fill(database_url, world.log)
    read = await ReadModel.open(database_url)
    try:
        assert {name: await names(read, name_regex=name) for name in ODD_NAMES} == {name: [name] for name in ODD_NAMES}
        assert await names(read, name_regex="b[1") == ["web[1"]  # anywhere in the name, as an expression is
        assert await names(read, name_regex="b{1") == ["web{1"]
        assert [await read.servers_count(ServerQuery(name_regex=name)) for name in ODD_NAMES] == [1] * len(ODD_NAMES)
        with pytest.raises(InvalidQuery, match="'name' is no regular expression: "):
            await names(read, name_regex="WEB[1")
        marker = (await read.servers(ServerQuery(name_regex="web[1")))[0].id
        assert await names(read, name_regex="web[1", marker=marker) == []  # the page after the last
    finally:
        await read.close()


async def test_addresses_are_matched_one_by_one(read: ReadModel, world: World) -> None:
    server = next(server for server in world.servers.values() if server.name == "alpha")
    address = server.interfaces[0].fixed_ips[0].address
    assert "alpha" in await names(read, ip=f"^{address}$")
    assert await names(read, ip="^0") == []
    assert await names(read, ip6="10") == []


async def test_changes_since_shows_the_deleted_when_asked_to(read: ReadModel, world: World) -> None:
    gone = next(server for server in world.servers.values() if server.name == "delta")
    assert gone.updated_at is not None
    assert "delta" in await names(read, changes_since=gone.updated_at, deleted=None)
    assert "delta" not in await names(read, changes_since=gone.updated_at + timedelta(microseconds=1), deleted=None)


@pytest.mark.parametrize(
    "sort", [(("created_at", "desc"),), (("host", "asc"), ("name", "desc")), (("task_state", "desc"),)]
)
async def test_pages_add_up_to_the_list(read: ReadModel, sort: tuple[tuple[str, str], ...]) -> None:
    whole = await read.servers(ServerQuery(sort=sort))
    pages = []
    marker = None
    while page := await read.servers(ServerQuery(sort=sort, limit=2, marker=marker)):
        pages += page
        marker = page[-1].id
    assert pages == whole


@pytest.mark.parametrize(
    "query",
    [
        {"name_regex": "(a"},
        {"name_regex": "a" * 300},
        {"name_regex": r"(\pL{9}){99}"},
        {"regex": {"name": "web[1"}},
        {"regex": {"state": "x"}},
        {"sort": (("colour", "asc"),)},
        {"sort": (("name", "up"),)},
    ],
)
async def test_what_makes_no_sense_is_refused(read: ReadModel, query: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery):
        await read.servers(ServerQuery(**query))


async def test_a_marker_that_names_nothing_is_refused(read: ReadModel, world: World) -> None:
    with pytest.raises(MarkerNotFound):
        await read.servers(ServerQuery(marker="nothing"))
    with pytest.raises(MarkerNotFound):
        await read.actions(next(iter(world.servers)), marker="req-none")
    with pytest.raises(MarkerNotFound):
        await read.resources("port", marker="nothing")


async def test_usage_counts_what_is_not_deleted(read: ReadModel) -> None:
    usage = await read.usage("p-demo")
    assert (usage.instances, usage.cores, usage.ram) == (5, 8, 4 * 512 + 2048)
    assert (await read.usage("nobody")).instances == 0


async def test_actions_come_newest_first_in_pages(read: ReadModel, world: World) -> None:
    gone = next(server for server in world.servers.values() if server.name == "delta")
    delete, create = await read.actions(gone.id)
    assert (delete.action, delete.result, create.action, create.result) == ("delete", "Success", "create", "Success")
    assert await read.actions(gone.id, limit=1) == [delete]
    assert await read.actions(gone.id, marker=delete.request_id) == [create]
    assert await read.actions(gone.id, changes_since=delete.updated_at) == [delete]
    assert await read.actions(gone.id, changes_before=create.updated_at) == [create]
    assert await read.action(gone.id, "req-none") is None
    assert (await read.newest_actions(list(world.servers)))[gone.id] == delete
    full = await read.action(gone.id, create.request_id)
    assert full is not None
    assert [step.step for step in full.steps] == ["schedule", "create_ports", "create_disk", "config_drive", "spawn"]
    (event,) = full.events
    assert event.event == "compute__do_build_and_run_instance"
    assert (event.start_time, event.finish_time) == (full.steps[1].start_time, full.steps[-1].finish_time)
    assert event.host_id == host_id("p-demo", "host-1")
    assert (await read.actions(gone.id, steps=True))[1] == full


async def test_hosts_add_up_what_is_placed_on_them(world: World, database_url: str) -> None:
    for name in ("host-1", "host-2", "host-3"):
        world.change("host", name=name, vcpus=8, memory_mb=8192, disk_gb=100)
    fill(database_url, world.log)
    read = await ReadModel.open(database_url)
    hosts = {row.host.name: row for row in await read.hosts()}
    assert [(row.servers, row.vcpus_used, row.memory_mb_used, row.disk_gb_used) for row in hosts.values()] == [
        (4, 4, 4 * 512, 3 * 10),  # one of the four boots from a volume
        (1, 4, 2048, 40),
        (0, 0, 0, 0),
    ]
    assert [row.server_id for row in await read.placements("host-2")] == [
        server.id for server in world.servers.values() if server.host == "host-2"
    ]
    await read.close()


async def test_resources_are_found_by_name_key_and_project(database_url: str) -> None:
    world = World()
    network = world.change("network", name="private", project_id="p-demo")
    ports = [
        world.change("port", network_id=network, mac=f"m{number}", project_id="p-demo", device_id=f"d{number % 2}")
        for number in range(5)
    ]
    world.change("port", ports[4], "delete", deleted=True)
    world.change("port", ports[3], "update", device_id="")
    fill(database_url, world.log)
    read = await ReadModel.open(database_url)

    async def ids(**query: Any) -> list[str]:
        return [port.id for port in await read.resources("port", **query)]

    assert await ids() == ports[:4]
    assert await ids(include_deleted=True) == ports
    assert await ids(where={"network_id": network, "device_id": "d0"}) == [ports[0], ports[2]]
    assert await ids(where={"device_id": ["d0", "d1"]}) == ports[:3]
    assert await ids(where={"device_id": ""}) == [ports[3]]
    assert await ids(project_id="p-other") == []
    assert await ids(ids=ports[1:2]) == ports[1:2]
    assert await ids(limit=2, marker=ports[1]) == ports[2:4]
    assert await ids(sort=[("created_at", "desc")], limit=1) == [ports[3]]
    with pytest.raises(InvalidQuery):
        await ids(where={"colour": "blue"})
    found = await read.resource_by_name("network", "private")
    assert found is not None
    assert found.id == network
    assert await read.resource_by_name("network", "private", "p-other") is None
    deleted = await read.resource("port", ports[4])
    assert deleted is not None
    assert deleted.deleted
    await read.close()


async def test_addresses_that_their_port_does_not_have_are_found(database_url: str) -> None:
    world = World()
    given = {"network_id": "n", "mac": "m"}
    has = world.change("port", **given, fixed_ips=[{"address": "10.0.0.1", "subnet_id": "s"}])
    pairs = world.change("port", **given, allowed_address_pairs=[{"ip_address": "10.0.0.2"}])
    gone = world.change("port", **given, fixed_ips=[{"address": "10.0.0.3", "subnet_id": "s"}])
    world.change("port", gone, "delete", deleted=True)
    for number, port in enumerate((has, pairs, gone, "never", None, has), 1):
        world.change("address", subnet_id="s", address=f"10.0.0.{number}", port_id=port)
    fill(database_url, world.log)
    read = await ReadModel.open(database_url)
    found = await read.addresses_without_port(START + timedelta(days=1))
    assert {one.address: one.port_id for one in found} == {
        "10.0.0.2": pairs,
        "10.0.0.3": gone,
        "10.0.0.4": "never",
        "10.0.0.6": has,
    }
    assert await read.addresses_without_port(START - timedelta(days=1)) == []
    await read.close()


async def test_ports_that_their_server_does_not_have_are_found(database_url: str) -> None:
    world = World()
    gone, there = world.active("gone"), world.active("there")
    world.do(gone, "delete")
    world.finish(gone)
    shown = world.servers[there].interfaces[0].port_id
    given = {"network_id": "n", "mac": "m"}
    world.change("port", shown, **given, device_id=there)
    late = [world.change("port", **given, device_id=device) for device in (there, gone)]
    for device in ("", "no server"):
        world.change("port", **given, device_id=device)
    world.change("port", world.change("port", **given, device_id=gone), "delete", deleted=True)
    fill(database_url, world.log)
    read = await ReadModel.open(database_url)
    assert sorted(one.id for one in await read.ports_without_server(START + timedelta(days=1))) == sorted(late)
    assert await read.ports_without_server(START - timedelta(days=1)) == []
    await read.close()


async def test_events_are_filtered_and_paged(read: ReadModel, world: World) -> None:
    gone = next(server for server in world.servers.values() if server.name == "delta")
    everything = await read.events(EventQuery())
    assert [event.id for event in everything] == sorted(event.id for event in everything)
    assert sum(len(recorded.commit.events) for recorded in world.log) == len(everything)
    mine = await read.events(EventQuery(aggregate_id=gone.id))
    assert [event.version for event in mine] == list(range(1, gone.version + 1))
    assert mine[0].type == "server.create.accepted"
    assert mine[0].project_id == "p-demo"
    assert await read.events(EventQuery(aggregate_id=gone.id, newest_first=True)) == mine[::-1]
    assert await read.events(EventQuery(aggregate_id=gone.id, types=("server.delete.*",))) == [
        event for event in mine if event.command == "delete"
    ]
    assert await read.events(EventQuery(request_id=mine[0].request_id)) == [
        event for event in everything if event.correlation_id == mine[0].request_id
    ]
    assert await read.events(EventQuery(after=everything[-1].position - 1)) == [
        event for event in everything if event.position == everything[-1].position
    ]
    assert await read.events(EventQuery(after_id=everything[-2].id)) == everything[-1:]
    assert (
        await read.events(EventQuery(user_id="u-ada", kind="server", phases=("accepted",), limit=1)) == everything[:1]
    )
    assert await read.events(EventQuery(failed=True)) == []
    assert await read.events(EventQuery(until=everything[0].occurred_at)) == [
        event for event in everything if event.position == 1
    ]
