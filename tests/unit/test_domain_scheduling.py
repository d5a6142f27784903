"""Where a server goes, and what is kept of why: the same whether hosts stand together or each by itself."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.fleet import Fleet
from domain.scheduling import WEIGHTS_KEPT, Alike, Demand, HostView, Placement, place
from domain.server import FlavorSnapshot

NAMES = tuple(f"host-{number}" for number in range(8))
SMALL = FlavorSnapshot(id="1", name="small", vcpus=1, ram=512, disk=1)


def host(name: str, **fields: Any) -> HostView:
    given: dict[str, Any] = {"vcpus": 4, "memory_mb": 4096, "disk_gb": 40}
    return HostView(name, **(given | fields))


def placed(hosts: list[HostView], demand: Demand) -> Placement:
    return place(Fleet(hosts).apart(demand.named()), demand)


def reasons(placement: Placement) -> dict[str, tuple[str, str, str]]:
    """Per host that was dropped: filter, need, have."""
    found = [(name, (one.filter, one.need, one.have or name)) for one in placement.dropped for name in one.hosts]
    assert len(found) == len(dict(found)), "a host was dropped twice"
    return dict(found)


few = st.sets(st.sampled_from(NAMES), max_size=3).map(lambda names: tuple(sorted(names)))
hosts = st.lists(
    st.builds(
        host,
        st.sampled_from(NAMES),
        memory_mb=st.sampled_from((512, 4096)),
        used_memory_mb=st.sampled_from((0, 512, 4096)),
        used_vcpus=st.sampled_from((0, 16)),
        used_disk_gb=st.sampled_from((0, 40)),
        servers=st.sampled_from((0, 1)),
        up=st.booleans(),
        disabled=st.sampled_from((False, False, True)),
        availability_zone=st.sampled_from(("nova", "nova", "east")),
        failed_builds=st.sampled_from((0, 0, 1)),
    ),
    unique_by=lambda one: one.name,
)
demands = st.builds(
    Demand,
    flavor=st.just(SMALL),
    availability_zone=st.sampled_from((None, None, "nova")),
    forced_host=st.sampled_from((None, None, None, NAMES[0], "nowhere")),
    excluded=few,
    same_host=few,
    different_host=few,
    group_policy=st.sampled_from((None, "affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")),
    group_hosts=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 2), max_size=3),
    local_disk=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(hosts, demands)
def test_hosts_that_look_the_same_are_decided_on_as_if_each_stood_by_itself(
    given_hosts: list[HostView], demand: Demand
) -> None:
    alone = [Alike(msgspec.structs.replace(one, name=""), (one.name,)) for one in given_hosts]
    together, each = placed(given_hosts, demand), place(alone, demand)
    assert (together.host, together.weights) == (each.host, each.weights)
    assert reasons(together) == reasons(each)
    assert set(reasons(together)) | set(together.weights) == {one.name for one in given_hosts}
    assert not set(reasons(together)) & set(together.weights)


changes = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from((0, 1, 2, None))), max_size=30)


@given(changes, few)
def test_a_fleet_holds_every_host_once_as_it_looked_last(
    given_changes: list[tuple[str, int | None]], named: Any
) -> None:
    fleet = Fleet()
    last: dict[str, HostView] = {}
    for name, servers in given_changes:
        if servers is None:
            fleet.remove(name)
            last.pop(name, None)
        else:
            fleet.put(host(name, servers=servers))
            last[name] = host(name, servers=servers)
    stand = list(fleet.apart(named))
    shown = [msgspec.structs.replace(one.look, name=name) for one in stand for name in one.names]
    assert sorted(shown, key=lambda one: one.name) == [last[name] for name in sorted(last)]
    assert all(list(one.names) == sorted(one.names) and one.names for one in stand)
    assert all(len(one.names) == 1 for one in stand if set(one.names) & set(named))
    assert {one.name: one for one in fleet.hosts()} == last
    assert [one.names for one in fleet.only(NAMES[0])] == ([[NAMES[0]]] if NAMES[0] in last else [])


def test_a_thousand_equal_hosts_are_looked_at_once() -> None:
    fleet = Fleet(host(f"host-{number:04}") for number in range(1000))
    assert len(list(fleet)) == 1
    found = place(fleet.apart(()), Demand(SMALL))
    assert found.host == "host-0000"
    assert list(found.weights) == [f"host-{number:04}" for number in range(WEIGHTS_KEPT)]


def test_the_heaviest_hosts_and_every_dropped_one_are_kept() -> None:
    roomy = [host(f"roomy-{number:02}", memory_mb=4096 + number) for number in range(WEIGHTS_KEPT + 30)]
    full = [host(f"full-{number:02}", used_memory_mb=4000) for number in range(WEIGHTS_KEPT + 30)]
    evidence = placed([*full, *roomy], Demand(SMALL)).evidence()
    assert evidence["host"] == roomy[-1].name
    assert list(evidence["weights"]) == [one.name for one in reversed(roomy[-WEIGHTS_KEPT:])]
    assert evidence["dropped"] == (
        {
            "hosts": tuple(one.name for one in full),
            "filter": "MEMORY_MB",
            "need": "512 MB of memory",
            "have": "96 of 4096 MB of memory free",
        },
    )


def test_a_summary_counts_the_hosts_of_each_filter() -> None:
    hosts = [host("a"), host("b"), host("c", memory_mb=100)]
    assert placed(hosts, Demand(SMALL)).summary() == "MEMORY_MB: 1 host dropped"
    forced = placed(hosts, Demand(SMALL, forced_host="c"))
    assert (forced.host, forced.summary()) == (None, "RequestedHost: 2 hosts dropped; MEMORY_MB: 1 host dropped")
    assert reasons(forced)["a"] == ("RequestedHost", "c", "a")


def test_without_hosts_the_summary_says_so() -> None:
    assert placed([], Demand(SMALL)).summary() == "No host is registered."


def test_a_soft_group_is_followed_while_there_is_room_however_empty_another_host_is() -> None:
    first = host("host-1", used_memory_mb=1024, used_vcpus=2, used_disk_gb=20, servers=2)
    fleet = [first, host("host-2")]
    together = Demand(flavor=SMALL, group_policy="soft-affinity", group_hosts={"host-1": 1})
    assert placed(fleet, together).host == "host-1"
    assert placed(fleet, msgspec.structs.replace(together, group_policy="soft-anti-affinity")).host == "host-2"
    full = msgspec.structs.replace(first, used_memory_mb=4096)
    assert placed([full, host("host-2")], together).host == "host-2"
