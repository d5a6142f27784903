"""A server as each microversion shows it. The full key sets are held against recordings in tests/conformance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from api.compute.servers_view import View, addresses, created, detail, full, host_id, updated
from domain.server import FixedIp, FlavorSnapshot, Interface, Server, ServerFault, VolumeAttachment

AT = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
SERVER = Server(
    id="11111111-2222-3333-4444-555555555555",
    name="web",
    project_id="demo",
    user_id="alice",
    vm_state="active",
    power_state="running",
    created_at=AT,
    updated_at=AT,
    launched_at=AT,
    flavor=FlavorSnapshot(id="1", name="m1.nano", vcpus=1, ram=96, disk=1),
    image_id="99999999-2222-3333-4444-555555555555",
    host="host-1",
    hostname="web",
    interfaces=(
        Interface(
            port_id="p",
            network_id="n",
            network_name="private",
            mac="fa:16:3e:00:00:01",
            fixed_ips=(FixedIp(address="10.0.0.5", subnet_id="s"),),
        ),
    ),
    security_groups=("default",),
    volumes=(VolumeAttachment(id="a", volume_id="v", delete_on_termination=True),),
    user_data_id="blob",
)


def shown(version: int, server: Server = SERVER, *, admin: bool = False) -> dict[str, Any]:
    view = View(version, "http://api/compute", "", admin, {"host-1": "UP"}, {"blob": "aGVsbG8="})
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(full(view, server)))
    return body


@pytest.mark.parametrize(
    ("field", "since"),
    [
        ("locked", 9),
        ("description", 19),
        ("tags", 26),
        ("trusted_image_certificates", 63),
        ("server_groups", 71),
        ("locked_reason", 73),
        ("OS-EXT-SRV-ATTR:hostname", 90),
        ("pinned_availability_zone", 96),
    ],
)
def test_fields_come_with_their_microversion(field: str, since: int) -> None:
    assert field not in shown(since - 1)
    assert field in shown(since)


def test_the_flavor_is_embedded_from_2_47() -> None:
    bookmark = {"rel": "bookmark", "href": "http://api/compute/flavors/1"}
    assert shown(46)["flavor"] == {"id": "1", "links": [bookmark]}
    assert shown(47)["flavor"]["original_name"] == "m1.nano"


def test_administrators_see_where_it_runs() -> None:
    member, admin = shown(96), shown(96, admin=True)
    assert "OS-EXT-SRV-ATTR:host" not in member
    assert "host_status" not in member
    assert admin["OS-EXT-SRV-ATTR:host"] == "host-1"
    assert admin["host_status"] == "UP"
    assert admin["OS-EXT-SRV-ATTR:user_data"] == "aGVsbG8="
    assert "host_status" not in shown(15, admin=True)


def test_the_host_id_tells_hosts_apart_and_nothing_more() -> None:
    assert shown(1)["hostId"] == host_id("demo", "host-1")
    assert host_id("demo", "host-1") != host_id("other", "host-1")
    assert host_id("demo", None) == ""


def test_times_have_the_forms_of_their_fields() -> None:
    body = shown(1)
    assert body["created"] == "2026-01-02T03:04:05Z"
    assert body["OS-SRV-USG:launched_at"] == "2026-01-02T03:04:05.000000"
    assert body["OS-SRV-USG:terminated_at"] is None


def test_a_fault_shows_only_in_error_and_progress_only_while_something_moves() -> None:
    fault = ServerFault(code=500, message="No valid host was found.", created=AT, details="filters")
    active = msgspec.structs.replace(SERVER, fault=fault)
    failed = msgspec.structs.replace(active, vm_state="error")
    assert "fault" not in shown(96, active)
    assert shown(96, failed)["fault"] == {
        "code": 500,
        "created": "2026-01-02T03:04:05Z",
        "message": "No valid host was found.",
    }
    assert shown(96, failed, admin=True)["fault"]["details"] == "filters"
    assert "progress" in shown(96, active)
    assert "progress" not in shown(96, failed)


def test_volumes_say_from_2_3_whether_they_go_with_the_server() -> None:
    key = "os-extended-volumes:volumes_attached"
    assert shown(2)[key] == [{"id": "v"}]
    assert shown(3)[key] == [{"id": "v", "delete_on_termination": True}]


def test_addresses_with_and_without_their_types() -> None:
    assert addresses(SERVER, extended=False) == {"private": [{"version": 4, "addr": "10.0.0.5"}]}
    assert addresses(SERVER)["private"][0]["OS-EXT-IPS-MAC:mac_addr"] == "fa:16:3e:00:00:01"


def test_security_groups_belong_to_ports() -> None:
    assert shown(1)["security_groups"] == [{"name": "default"}]
    assert "security_groups" not in shown(1, msgspec.structs.replace(SERVER, interfaces=()))


def test_lists_have_no_server_groups_and_updates_were_short_before_2_75() -> None:
    view = View(96, "http://api/compute", "", False)
    assert "server_groups" not in detail(view, SERVER)
    assert "OS-EXT-STS:vm_state" not in updated(View(74, "http://api/compute", "", False), SERVER)
    assert "OS-EXT-STS:vm_state" in updated(View(75, "http://api/compute", "", False), SERVER)


def test_a_new_server_shows_its_password_once() -> None:
    view = View(96, "http://api/compute", "/demo", False)
    body = msgspec.json.decode(msgspec.json.encode(created(view, SERVER, "secret")))
    assert body["adminPass"] == "secret"
    assert body["links"][0]["href"] == f"http://api/compute/v2.1/demo/servers/{SERVER.id}"
