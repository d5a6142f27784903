"""Small aggregates, given / when / then: what each change makes of a resource, and which changes fit no schema."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from domain.resources import KINDS, InvalidResource, Resource, ResourceChange, decode, encode, evolve

BORN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = BORN + timedelta(hours=1)
ID = "11111111-2222-3333-4444-555555555555"

# kind: the fields it is created with, a change, and a field with a value of the wrong type
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "host": (
        {"name": "host-1", "driver": "libvirt", "vcpus": 8, "memory_mb": 4096, "capabilities": ["rescue"]},
        {"disabled": True, "disabled_reason": "new fan"},
        {"vcpus": "eight"},
    ),
    "flavor": (
        {"name": "m1.small", "vcpus": 1, "ram": 512, "disk": 1, "flavor_id": "1"},
        {"extra_specs": {"hw:cpu_policy": "dedicated"}},
        {"ram": None},
    ),
    "image": (
        {"name": "cirros", "disk_format": "qcow2", "tags": ["small"], "properties": {"os": "linux"}},
        {"status": "active", "size": 17},
        {"size": "17"},
    ),
    "network": ({"name": "private", "shared": True}, {"mtu": 9000, "tags": ["fast"]}, {"mtu": 1.5}),
    "subnet": (
        {"name": "v4", "network_id": "n-1", "cidr": "10.0.0.0/24", "allocation_pools": [["10.0.0.2", "10.0.0.9"]]},
        {"gateway_ip": "10.0.0.1", "dns_nameservers": ["10.0.0.53"]},
        {"allocation_pools": [["10.0.0.2"]]},
    ),
    "port": (
        {"network_id": "n-1", "mac": "fa:16:3e:00:00:01", "fixed_ips": [{"address": "10.0.0.5", "subnet_id": "s-1"}]},
        {"device_id": "server-1", "binding_host": "host-1", "status": "ACTIVE"},
        {"fixed_ips": [{"address": "10.0.0.5"}]},
    ),
    "address": ({"subnet_id": "s-1", "address": "10.0.0.5", "port_id": "p-1"}, {"port_id": None}, {"port_id": 5}),
    "keypair": (
        {"name": "key", "user_id": "alice", "public_key": "ssh-ed25519 AAAA", "fingerprint": "aa:bb"},
        {"key_type": "x509"},
        {"public_key": ["ssh-ed25519"]},
    ),
}
each_kind = pytest.mark.parametrize("kind", EXAMPLES)


def created(kind: str) -> Resource:
    return evolve(kind, None, ID, ResourceChange(EXAMPLES[kind][0]), BORN)


def shown(state: Resource, fields: dict[str, Any]) -> dict[str, Any]:
    """The named fields of a resource as the plain values that events carry."""
    return {name: msgspec.to_builtins(getattr(state, name)) for name in fields}


def plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields as `shown` tells them: sequences as tuples where the schema has tuples."""
    return {name: _tuples(value) for name, value in fields.items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


@each_kind
def test_given_nothing_when_created_then_it_holds_the_fields_and_is_version_1(kind: str) -> None:
    state = created(kind)
    assert type(state) is KINDS[kind]
    assert (state.id, state.version, state.deleted) == (ID, 1, False)
    assert (state.created_at, state.updated_at) == (BORN, BORN)
    assert shown(state, EXAMPLES[kind][0]) == plain(EXAMPLES[kind][0])


@each_kind
def test_given_one_when_updated_then_only_the_changed_fields_differ(kind: str) -> None:
    before, change = created(kind), EXAMPLES[kind][1]
    after = evolve(kind, before, ID, ResourceChange(change), LATER)
    assert shown(after, change) == plain(change)
    assert (after.version, after.created_at, after.updated_at) == (2, BORN, LATER)
    kept = set(type(before).__struct_fields__) - set(change) - {"version", "updated_at"}
    assert {name: getattr(after, name) for name in kept} == {name: getattr(before, name) for name in kept}


@each_kind
def test_given_one_when_deleted_then_it_keeps_its_last_state(kind: str) -> None:
    before = created(kind)
    after = evolve(kind, before, ID, ResourceChange({"deleted": True}), LATER)
    assert after.deleted
    assert after.version == 2
    assert shown(after, EXAMPLES[kind][0]) == shown(before, EXAMPLES[kind][0])


@each_kind
def test_given_a_deleted_one_when_created_again_then_it_starts_afresh_and_its_version_goes_on(kind: str) -> None:
    first = evolve(kind, created(kind), ID, ResourceChange(EXAMPLES[kind][1]), BORN)
    gone = evolve(kind, first, ID, ResourceChange({"deleted": True}), BORN)
    again = evolve(kind, None, ID, ResourceChange(EXAMPLES[kind][0]), LATER, version=gone.version)
    assert (again.version, again.deleted) == (gone.version + 1, False)
    assert (again.created_at, again.updated_at) == (LATER, LATER)
    fields = set(KINDS[kind].__struct_fields__) - {"version", "created_at", "updated_at"}
    afresh = created(kind)
    assert {name: getattr(again, name) for name in fields} == {name: getattr(afresh, name) for name in fields}


@each_kind
def test_given_any_when_a_field_is_unknown_then_it_is_refused_by_name(kind: str) -> None:
    for state, fields in ((None, EXAMPLES[kind][0]), (created(kind), {})):
        with pytest.raises(InvalidResource, match=f"{kind} has no field colour, taste"):
            evolve(kind, state, ID, ResourceChange(fields | {"taste": 1, "colour": 2}), LATER)


@each_kind
def test_given_any_when_a_field_has_the_wrong_type_then_it_is_refused_by_name(kind: str) -> None:
    wrong = EXAMPLES[kind][2]
    (name,) = wrong
    for state, fields in ((None, EXAMPLES[kind][0]), (created(kind), {})):
        with pytest.raises(InvalidResource, match=rf"{kind}: .*\$\.{name}"):
            evolve(kind, state, ID, ResourceChange(fields | wrong), LATER)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [("flavor", "vcpus"), ("subnet", "cidr"), ("port", "mac"), ("address", "address"), ("keypair", "fingerprint")],
)
def test_given_nothing_when_a_field_it_needs_is_missing_then_it_is_refused_by_name(kind: str, missing: str) -> None:
    fields = {name: value for name, value in EXAMPLES[kind][0].items() if name != missing}
    with pytest.raises(InvalidResource, match=missing):
        evolve(kind, None, ID, ResourceChange(fields), BORN)


@each_kind
def test_what_is_stored_is_what_is_read(kind: str) -> None:
    state = evolve(kind, created(kind), ID, ResourceChange(EXAMPLES[kind][1]), LATER)
    assert decode(kind, encode(state)) == state
