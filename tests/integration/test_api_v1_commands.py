"""Commands over /v1 on a whole control plane: accepted, refused, repeated, tried, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from api import identity, v1
from api.auth import assignment_id
from api.identity.passwords import hash_now
from commands.context import SERVICE, CommandContext
from domain.decide import MOVES
from domain.workflows import WORKFLOWS
from tests.plane import PASSWORD, Plane, running_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    async with running_plane(tmp_path_factory.mktemp("plane"), {"v1": v1, "identity": identity}) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(plane: Plane) -> AsyncIterator[httpx.AsyncClient]:
    async with plane.signed_in("demo") as client:
        yield client


async def give(client: httpx.AsyncClient, command: str, server_id: str, **params: object) -> httpx.Response:
    return await client.post("/v1/commands", json={"type": command, "server_id": server_id, "params": params})


async def test_stop_is_accepted_and_carried_out(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "web")
    answer = await demo.post("/v1/commands", json={"type": "stop", "server_id": server_id})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["server_id"] == server_id
    assert body["request_id"].startswith("req-")
    assert answer.headers["etag"] == f'"{body["version"]}"'
    assert body["position"] > 0
    assert (await plane.settled(server_id)).vm_state == "stopped"
    shown = (await demo.get(f"/v1/servers/{server_id}")).json()
    assert shown["server"]["status"] == "SHUTOFF"
    assert "start" in shown["commands"]
    assert "stop" not in shown["commands"]
    assert set(shown["commands"]) & MOVES <= set(WORKFLOWS)  # what nothing carries out can not be done now


async def test_an_illegal_command_is_409_with_reason_and_hint(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "running")
    answer = await give(demo, "start", server_id)
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["reason"] == "vm_state"
    assert problem["detail"] == f"Cannot 'start' instance {server_id} while it is in vm_state active"
    assert "stopped" in problem["hint"]
    assert problem["request_id"] == answer.headers["x-openstack-request-id"]


async def test_if_match_refuses_what_was_decided_on_an_older_version(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "versioned")
    shown = await demo.get(f"/v1/servers/{server_id}")
    etag = shown.headers["etag"]
    body = {"type": "update", "server_id": server_id, "params": {"name": "renamed"}}
    first = await demo.post("/v1/commands", json=body, headers={"If-Match": etag})
    assert first.status_code == 202
    again = await demo.post("/v1/commands", json=body | {"params": {"name": "lost"}}, headers={"If-Match": etag})
    assert again.status_code == 412
    assert again.json()["reason"] == "version"
    assert (await demo.get(f"/v1/servers/{server_id}")).json()["server"]["name"] == "renamed"


async def test_a_repeated_key_does_nothing_twice_and_fits_one_request(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "repeated")
    headers = {"Idempotency-Key": str(uuid4())}
    body = {"type": "lock", "server_id": server_id, "params": {"reason": "backup"}}
    first = await demo.post("/v1/commands", json=body, headers=headers)
    second = await demo.post("/v1/commands", json=body, headers=headers)
    assert first.status_code == second.status_code == 202
    assert first.json()["position"] == second.json()["position"]
    assert first.json()["request_id"] == second.json()["request_id"]
    other = await demo.post("/v1/commands", json=body | {"params": {}}, headers=headers)
    assert other.status_code == 422
    assert other.json()["reason"] == "idempotency_key_reused"


async def test_what_holds_already_changes_nothing_with_a_key_either(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "locked-twice")
    body = {"type": "lock", "server_id": server_id}
    changed, key = [], {"Idempotency-Key": str(uuid4())}
    for headers in (key, {}, {"Idempotency-Key": str(uuid4())}, key):
        answer = await demo.post("/v1/commands", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        changed.append(answer.json()["changed"])
    assert changed == [True, False, False, True]  # the last is the first one's answer again


async def test_a_dry_run_decides_and_appends_nothing(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "tried")
    before = (await demo.get(f"/v1/servers/{server_id}")).headers["etag"]
    answer = await demo.post("/v1/commands?dry_run=true", json={"type": "stop", "server_id": server_id})
    assert answer.status_code == 200
    body = answer.json()
    assert body["before"] == {"status": "ACTIVE", "vm_state": "active", "task_state": None}
    assert body["after"]["task_state"] == "powering-off"
    assert body["first_step"] == "power_off"
    refused = await demo.post("/v1/commands?dry_run=true", json={"type": "start", "server_id": server_id})
    assert refused.status_code == 409
    assert (await demo.get(f"/v1/servers/{server_id}")).headers["etag"] == before


async def test_what_an_administrator_locked_is_not_its_owners_to_unlock(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "kept")
    async with plane.signed_in("admin") as admin:
        assert (await give(admin, "lock", server_id)).status_code == 202
        assert "unlock" in (await admin.get(f"/v1/servers/{server_id}")).json()["commands"]
        assert "unlock" not in (await demo.get(f"/v1/servers/{server_id}")).json()["commands"]
        assert (await give(demo, "unlock", server_id)).status_code == 403


async def test_what_only_a_host_can_do_is_not_legal_on_none(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "nowhere")
    assert (await give(demo, "shelve", server_id)).status_code == 202
    assert (await plane.settled(server_id)).vm_state == "shelved_offloaded"
    async with plane.signed_in("admin") as admin:
        assert (await give(admin, "reset-state", server_id, state="active")).status_code == 202
        await plane.settled(server_id)
        shown = (await admin.get(f"/v1/servers/{server_id}")).json()
        assert shown["server"]["host"] is None
        for command in ("reboot-hard", "pause", "rescue", "delete"):
            tried = await admin.post(
                "/v1/commands?dry_run=true", json={"type": command, "server_id": server_id, "params": {}}
            )
            assert (tried.status_code < 300) == (command in shown["commands"]), (command, tried.text)


async def test_a_removed_command_is_gone_for_everybody(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "gone")
    async with plane.signed_in("admin") as admin:
        for client in (demo, admin):
            answer = await give(client, "reset-network", server_id)
            assert answer.status_code == 410, answer.text
            assert answer.json()["detail"].startswith("This resource is no longer available.")


async def test_another_projects_server_does_not_exist(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "private")
    async with plane.signed_in("other") as stranger:
        nobodys = await give(stranger, "stop", str(uuid4()))
        foreign = await give(stranger, "stop", server_id)
        assert nobodys.status_code == foreign.status_code == 404
        assert foreign.json()["detail"] == f"Instance {server_id} could not be found."
        for path in ("", "/history", "/explain", "/diff?from=1", "?as_of=1"):
            assert (await stranger.get(f"/v1/servers/{server_id}{path}")).status_code == 404
        assert (await stranger.get("/v1/servers")).json()["servers"] == []
        own = (await give(demo, "start", server_id)).json()["request_id"]  # refused later than the stranger's
        told: list[str] = []
        async with asyncio.timeout(60):
            while own not in told:
                history = (await demo.get(f"/v1/servers/{server_id}/history")).json()
                told = [one["request_id"] for one in history["rejections"]]
        assert told == [own]
        assert (await stranger.get("/v1/events", params={"kind": "server"})).json()["events"] == []
        assert (await stranger.get("/v1/events", params={"server": server_id})).json()["events"] == []


async def test_who_may_not_read_a_server_sees_it_nowhere(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "unread")
    context, target = CommandContext(SERVICE, f"req-{uuid4()}"), plane.ids["project demo"]
    commands = plane.services.commands
    role = await commands.create("role", {"name": "service"}, context)
    user = await commands.create("user", {"name": "a-service", "password_hash": hash_now(PASSWORD)}, context)
    fields = {"user_id": user.id, "project_id": target, "roles": (role.id,)}
    await commands.create("assignment", fields, context, id=assignment_id(user.id, "project", target))
    position = (await demo.get(f"/v1/servers/{server_id}")).json()["position"]
    lists = {
        "/v1/servers": "servers",
        f"/v1/servers?as_of={position}": "servers",
        f"/v1/events?server={server_id}": "events",
        "/v1/events": "events",
    }
    async with plane.signed_in("a-service", "demo") as service:
        assert (await service.get(f"/v1/servers/{server_id}")).status_code == 404
        for path, name in lists.items():
            assert (await demo.get(path)).json()[name]
            assert (await service.get(path)).json()[name] == []
        hosts = (await service.get("/v1/hosts")).json()["hosts"]
        assert [host["servers"] for host in hosts] == [[], []]


async def test_a_reader_may_look_and_not_touch(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "looked-at")
    async with plane.signed_in("reader", "demo") as reader:
        shown = await reader.get(f"/v1/servers/{server_id}")
        assert shown.status_code == 200
        assert shown.json()["commands"] == []
        assert (await give(reader, "stop", server_id)).status_code == 403
    async with plane.client() as nobody:
        assert (await nobody.get("/v1/servers")).status_code == 401


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ({"type": "fly", "server_id": str(uuid4())}, 422, "command"),
        ({"type": "power-sync", "server_id": str(uuid4())}, 422, "command"),
        ({"type": "stop"}, 422, "server_id"),
        ({"type": "stop", "server_id": str(uuid4()), "params": {"grace_seconds": "soon"}}, 422, "params"),
        ({"type": "stop", "server_id": str(uuid4()), "params": []}, 422, "params"),
        ({"type": "stop", "server_id": str(uuid4()), "force": True}, 422, "body"),
        ({"type": "create", "params": {"name": "x", "flavor": "none", "image": "tiny"}}, 422, "flavor"),
        ({"type": "remote-console", "server_id": str(uuid4())}, 501, "not_implemented"),
        ({"type": "migrate", "server_id": str(uuid4())}, 501, "not_carried_out"),
        ({"type": "evacuate", "server_id": str(uuid4())}, 501, "not_carried_out"),
        ({"type": "attach-share", "server_id": str(uuid4())}, 501, "not_carried_out"),
        ([1], 400, "invalid"),
    ],
)
async def test_what_is_malformed_says_what_is_wrong(
    demo: httpx.AsyncClient, body: object, code: int, reason: str
) -> None:
    answer = await demo.post("/v1/commands", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (code, reason), answer.text


async def test_resize_names_a_flavor_and_waits_for_confirmation(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "grows")
    assert (await give(demo, "resize", server_id, flavor="m1.small")).status_code == 202
    server = await plane.settled(server_id)
    assert server.vm_state == "resized"
    assert (await give(demo, "confirm-resize", server_id)).status_code == 202
    server = await plane.settled(server_id)
    assert (server.vm_state, server.flavor.name) == ("active", "m1.small")


async def test_an_image_and_a_shelf_get_the_image_they_are_written_to(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "pictured")
    headers = {"Idempotency-Key": str(uuid4())}
    body = {"type": "create-image", "server_id": server_id, "params": {"name": "golden"}}
    first = await demo.post("/v1/commands", json=body, headers=headers)
    await plane.settled(server_id)
    again = await demo.post("/v1/commands", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202), again.text
    assert first.json()["position"] == again.json()["position"]
    [image] = await plane.services.read.resources("image", name="golden")
    assert getattr(image, "status", "") == "active"
    assert (await give(demo, "shelve", server_id)).status_code == 202
    assert (await plane.settled(server_id)).vm_state == "shelved_offloaded"
    refused = await give(demo, "create-image", server_id, name="too-late")
    assert refused.status_code == 409
    assert await plane.services.read.resources("image", name="too-late") == []


async def test_a_volume_is_attached_once_and_let_go(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id, other_id = await plane.create(demo, "with-disk"), await plane.create(demo, "without")
    fields = {"name": "data", "size_gb": 1, "status": "available", "project_id": plane.ids["project demo"]}
    volume = await plane.services.commands.create("volume", fields, CommandContext(SERVICE, f"req-{uuid4()}"))
    headers = {"Idempotency-Key": str(uuid4())}
    body = {"type": "attach-volume", "server_id": server_id, "params": {"volume_id": volume.id}}
    first = await demo.post("/v1/commands", json=body, headers=headers)
    assert first.status_code == 202, first.text
    again = await demo.post("/v1/commands", json=body, headers=headers)
    assert again.json()["position"] == first.json()["position"]
    server = await plane.settled(server_id)
    assert [one.volume_id for one in server.volumes] == [volume.id]
    taken = await give(demo, "attach-volume", other_id, volume_id=volume.id)
    assert (taken.status_code, taken.json()["reason"]) == (409, "volume")
    assert (await give(demo, "detach-volume", server_id, volume_id=volume.id)).status_code == 202
    assert (await plane.settled(server_id)).volumes == ()
    gone = await give(demo, "detach-volume", server_id, volume_id=volume.id)
    assert gone.status_code == 404


async def test_an_interface_comes_and_goes(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "two-legs")
    assert (await give(demo, "attach-interface", server_id, network="private")).status_code == 202
    server = await plane.settled(server_id)
    assert len(server.interfaces) == 2
    port_id = server.interfaces[1].port_id
    assert (await give(demo, "detach-interface", server_id, port_id=port_id)).status_code == 202
    assert len((await plane.settled(server_id)).interfaces) == 1
    assert (await give(demo, "attach-interface", server_id)).status_code == 422


async def test_the_catalogue_lists_every_command_with_its_parameters(demo: httpx.AsyncClient) -> None:
    listed = {one["type"]: one for one in (await demo.get("/v1/commands")).json()["commands"]}
    assert len(listed) == 55
    assert listed["stop"]["legal"]["vm_states"] == ["active", "error"]
    assert listed["resize"]["params"]["required"] == ["flavor"]
    assert listed["lock"]["sets_task_state"] == []
