"""Servers through the compute API on a whole control plane: creation, lists, parts, attachments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from domain.resources import Volume
from tests.conformance.deployment import Deployment, running
from tests.system import ADMIN, context

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = "00000000-0000-0000-0000-00000000dead"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running(tmp_path_factory.mktemp("compute")) as opened:
        yield opened


class Api:
    """One actor at one microversion."""

    def __init__(self, deployment: Deployment, actor: str, version: str = "2.96") -> None:
        self.deployment = deployment
        self.client = deployment.clients[actor]
        self.headers = {"OpenStack-API-Version": f"compute {version}"}

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.client.request(method, f"/compute/v2.1{path}", json=body, headers=self.headers | headers)

    async def get(self, path: str) -> Any:
        answer = await self.send("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def create(self, name: str, **fields: Any) -> str:
        ids = self.deployment.ids
        wanted = {"name": name, "flavorRef": "1", "imageRef": ids["image"], "networks": "none"} | fields
        hints = wanted.pop("hints", None)
        body = {"server": wanted} | ({"os:scheduler_hints": hints} if hints else {})
        answer = await self.send("POST", "/servers", body)
        assert answer.status_code == 202, answer.text
        server_id: str = answer.json()["server"]["id"]
        await self.settle(server_id)
        return server_id

    async def settle(self, server_id: str) -> None:
        async with asyncio.timeout(60):
            while True:
                server = await self.deployment.system.read.server(server_id)
                if server is not None and server.operation is None:
                    return
                await asyncio.sleep(0.02)

    async def act(self, server_id: str, body: dict[str, Any]) -> httpx.Response:
        answer = await self.send("POST", f"/servers/{server_id}/action", body)
        await self.settle(server_id)
        return answer


@pytest.fixture
def demo(deployment: Deployment) -> Api:
    return Api(deployment, "demo")


@pytest.fixture
def admin(deployment: Deployment) -> Api:
    return Api(deployment, "admin")


def message(answer: httpx.Response) -> str:
    inner: dict[str, Any] = next(iter(answer.json().values()))
    return str(inner["message"])


async def test_version_documents_need_no_token_and_lead_back(deployment: Deployment) -> None:
    async with httpx.AsyncClient(base_url=deployment.base_url, timeout=60) as anybody:
        root = (await anybody.get("/compute")).json()["versions"][0]
        assert root["links"][0]["href"] == f"{deployment.base_url}/compute/v2.1/"
        one = await anybody.get("/compute/v2.1/")
        assert one.json()["version"]["version"] == "2.96"
        assert (await anybody.get("/compute/v2.1/servers")).status_code == 401


async def test_paths_may_name_the_callers_project(deployment: Deployment, demo: Api) -> None:
    server_id = await demo.create("by-project")
    project = deployment.ids["project demo"]
    shown = (await demo.get(f"/{project}/servers/{server_id}"))["server"]
    assert shown["links"][0]["href"] == f"{deployment.base_url}/compute/v2.1/{project}/servers/{server_id}"
    wrong = await demo.send("GET", f"/{uuid4().hex}/servers")
    assert wrong.status_code == 400
    assert "doesn't match Context's project_id" in message(wrong)


async def test_a_version_that_is_not_served_is_406_and_a_path_above_its_last_version_404(
    deployment: Deployment,
) -> None:
    assert (await Api(deployment, "demo", "2.97").send("GET", "/servers")).status_code == 406
    assert (await Api(deployment, "admin", "2.42").send("GET", "/os-hosts")).status_code == 200
    assert (await Api(deployment, "admin", "2.43").send("GET", "/os-hosts")).status_code == 404
    assert (await Api(deployment, "demo", "2.35").send("GET", "/os-volumes")).status_code == 501
    assert (await Api(deployment, "demo", "2.36").send("GET", "/os-volumes")).status_code == 404
    assert (await Api(deployment, "demo", "2.1").send("GET", "/os-agents")).status_code == 410


async def test_several_at_once_have_numbers_and_a_reservation(demo: Api) -> None:
    ids = demo.deployment.ids
    wanted = {"name": "many", "flavorRef": "1", "imageRef": ids["image"], "networks": "none", "min_count": 2}
    answer = await demo.send("POST", "/servers", {"server": wanted | {"return_reservation_id": True}})
    reservation = answer.json()["reservation_id"]
    found = (await demo.get(f"/servers?reservation_id={reservation}"))["servers"]
    assert sorted(one["name"] for one in found) == ["many-1", "many-2"]


async def test_a_repeated_key_creates_once_and_answers_the_same(demo: Api) -> None:
    ids = demo.deployment.ids
    body = {"server": {"name": "once", "flavorRef": "1", "imageRef": ids["image"], "networks": "none"}}
    key = {"Idempotency-Key": str(uuid4())}
    first = await demo.send("POST", "/servers", body, **key)
    again = await demo.send("POST", "/servers", body, **key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert len((await demo.get("/servers?name=^once$"))["servers"]) == 1
    other = await demo.send("POST", "/servers", {"server": body["server"] | {"name": "twice"}}, **key)
    assert other.status_code == 422


async def test_what_a_server_refers_to_has_to_be_there(demo: Api) -> None:
    ids = demo.deployment.ids
    base = {"name": "x", "flavorRef": "1", "imageRef": ids["image"], "networks": "none"}
    for field, value, sentence in (
        ("flavorRef", "nope", "Flavor nope could not be found."),
        ("imageRef", NOBODY, f"Image {NOBODY} could not be found."),
        ("networks", [{"uuid": NOBODY}], f"Network {NOBODY} could not be found."),
        ("networks", [{"port": NOBODY}], f"Port {NOBODY} could not be found."),
        ("key_name", "nope", "Invalid key_name provided."),
        ("availability_zone", "nowhere", "The requested availability zone is not available"),
        (
            "block_device_mapping_v2",
            [{"source_type": "volume", "destination_type": "volume", "boot_index": 0}],
            "Block Device Mapping is Invalid: Missing device UUID.",
        ),
    ):
        answer = await demo.send("POST", "/servers", {"server": base | {field: value}})
        assert answer.status_code in (400, 501), answer.text
        assert message(answer).startswith(sentence), answer.text


async def test_images_of_others_are_used_only_when_shared_with_the_caller(deployment: Deployment, demo: Api) -> None:
    commands, other = deployment.system.commands, deployment.ids["project other"]
    fields = {"name": "theirs", "project_id": other, "status": "active", "visibility": "shared", "disk_format": "qcow2"}
    image = await commands.create("image", fields, context(ADMIN))
    wanted = {"server": {"name": "x", "flavorRef": "1", "imageRef": image.id, "networks": "none"}}
    refused = await demo.send("POST", "/servers", wanted)
    assert message(refused) == f"Image {image.id} could not be found."
    members = {"members": {deployment.ids["project demo"]: "accepted"}}
    await commands.update("image", image.id, members, context(ADMIN))
    assert (await demo.send("POST", "/servers", wanted)).status_code == 202


async def test_user_data_key_and_port_reach_the_server(deployment: Deployment, demo: Api, admin: Api) -> None:
    made = await demo.send("POST", "/os-keypairs", {"keypair": {"name": "k", "type": "ssh", "public_key": _KEY}})
    assert made.status_code == 201, made.text
    network = deployment.ids["network"]
    server_id = await demo.create("full", user_data="aGVsbG8=", key_name="k", networks=[{"uuid": network}])
    shown = (await admin.get(f"/servers/{server_id}"))["server"]
    assert shown["OS-EXT-SRV-ATTR:user_data"] == "aGVsbG8="
    assert shown["key_name"] == "k"
    address = shown["addresses"]["private"][0]["addr"]
    assert (await demo.get(f"/servers/{server_id}/ips/private"))["private"] == [{"version": 4, "addr": address}]
    assert [one["id"] for one in (await demo.get(f"/servers?ip=^{address}$"))["servers"]] == [server_id]


async def test_lists_filter_sort_and_page(deployment: Deployment, demo: Api, admin: Api) -> None:
    made = [await demo.create(f"list-{number}", tags=["odd" if number % 2 else "even", "list"]) for number in range(3)]
    await demo.act(made[0], {"os-stop": None})
    assert _names(await demo.get("/servers?name=^list-&status=SHUTOFF")) == ["list-0"]
    assert _names(await demo.get("/servers?tags=list&sort_key=display_name&sort_dir=asc")) == [
        "list-0",
        "list-1",
        "list-2",
    ]
    assert _names(await demo.get("/servers?tags=list&not-tags=odd&sort_key=display_name")) == ["list-2", "list-0"]
    assert _names(await demo.get(f"/servers?tags=list&progress={2**63}")) == []
    page = await demo.get("/servers?tags=list&limit=2")
    following = page["servers_links"][0]["href"].partition("/compute/v2.1")[2]
    assert _names(page) + _names(await demo.get(following)) == ["list-2", "list-1", "list-0"]
    assert _names(await Api(deployment, "other").get("/servers?name=^list-")) == []
    assert (await Api(deployment, "other").send("GET", "/servers?all_tenants=1")).status_code == 403
    assert len((await admin.get("/servers/detail?all_tenants=1&name=^list-"))["servers"]) == 3


async def test_a_name_that_is_no_expression_is_found_as_it_is(demo: Api) -> None:
    server_id = await demo.create("web[1")
    for path in ("/servers?name=web[1", "/servers/detail?display_name=b["):
        assert [one["id"] for one in (await demo.get(path))["servers"]] == [server_id], path
    for path, why in (
        (
            "/servers?name=b[2",
            "Invalid input for query parameters name. Value: b[2. 'b[2' is not a 'regex'",
        ),
        ("/servers?name=(?=w)", "'name' is no regular expression: invalid perl operator: (?="),
        (f"/servers?hostname=x{{{10**20}}}", "is not a 'regex'"),
    ):
        refused = await demo.send("GET", path)
        assert refused.status_code == 400
        assert why in message(refused)


async def test_deleted_servers_are_listed_among_changes_and_keep_their_history(demo: Api, admin: Api) -> None:
    server_id = await demo.create("short-lived")
    assert (await demo.send("DELETE", f"/servers/{server_id}")).status_code == 204
    await demo.settle(server_id)
    assert (await demo.send("GET", f"/servers/{server_id}")).status_code == 404
    changed = await demo.get("/servers/detail?name=short-lived&changes-since=2020-01-01T00:00:00Z")
    assert [one["status"] for one in changed["servers"]] == ["DELETED"]
    assert _names(await admin.get("/servers?all_tenants=1&deleted=true&name=short-lived")) == ["short-lived"]
    actions = (await demo.get(f"/servers/{server_id}/os-instance-actions"))["instanceActions"]
    assert [one["action"] for one in actions] == ["delete", "create"]
    early = Api(demo.deployment, "demo", "2.20")
    assert (await early.send("GET", f"/servers/{server_id}/os-instance-actions")).status_code == 404


async def test_history_pages_and_shows_hosts_to_administrators(demo: Api, admin: Api) -> None:
    server_id = await demo.create("historic")
    for body in ({"os-stop": None}, {"os-start": None}):
        await demo.act(server_id, body)
    path = f"/servers/{server_id}/os-instance-actions"
    first = await demo.get(f"{path}?limit=2")
    assert [one["action"] for one in first["instanceActions"]] == ["start", "stop"]
    rest = await demo.get(first["links"][0]["href"].partition("/compute/v2.1")[2])
    assert [one["action"] for one in rest["instanceActions"]] == ["create"]
    request_id = first["instanceActions"][0]["request_id"]
    event = (await admin.get(f"{path}/{request_id}"))["instanceAction"]["events"][0]
    assert event["event"] == "compute_start_instance"
    assert event["host"].startswith("host")
    assert "host" not in (await demo.get(f"{path}/{request_id}"))["instanceAction"]["events"][0]


async def test_interfaces_come_and_go(deployment: Deployment, demo: Api) -> None:
    server_id = await demo.create("wired")
    path = f"/servers/{server_id}/os-interface"
    attached = await demo.send("POST", path, {"interfaceAttachment": {"net_id": deployment.ids["network"], "tag": "a"}})
    assert attached.status_code == 200, attached.text
    port = attached.json()["interfaceAttachment"]
    assert port["tag"] == "a"
    assert [one["port_id"] for one in (await demo.get(path))["interfaceAttachments"]] == [port["port_id"]]
    groups = (await demo.get(f"/servers/{server_id}/os-security-groups"))["security_groups"]
    assert [one["name"] for one in groups] == ["default"]  # made when it was needed
    assert (await demo.send("DELETE", f"{path}/{port['port_id']}")).status_code == 202
    await demo.settle(server_id)
    assert (await demo.get(path))["interfaceAttachments"] == []


async def test_a_volume_is_attached_to_one_server_only(deployment: Deployment, demo: Api, admin: Api) -> None:
    commands, project = deployment.system.commands, deployment.ids["project demo"]
    volume = await commands.create("volume", {"project_id": project, "status": "available"}, context(ADMIN))
    first, second = await demo.create("first"), await demo.create("second")
    body = {"volumeAttachment": {"volumeId": volume.id, "delete_on_termination": True}}
    answers = await asyncio.gather(
        *(demo.send("POST", f"/servers/{server_id}/os-volume_attachments", body) for server_id in (first, second))
    )
    assert sorted(one.status_code for one in answers) == [200, 400]
    holder = first if answers[0].status_code == 200 else second
    await demo.settle(holder)
    shown = (await demo.get(f"/servers/{holder}/os-volume_attachments/{volume.id}"))["volumeAttachment"]
    assert shown["device"] == "/dev/vdb"
    assert shown["delete_on_termination"] is True
    assert (await demo.send("DELETE", f"/servers/{holder}/os-volume_attachments/{volume.id}")).status_code == 202
    await demo.settle(holder)
    assert (await demo.get(f"/servers/{holder}/os-volume_attachments"))["volumeAttachments"] == []


async def test_a_repeated_creation_from_a_volume_is_answered_as_the_first(deployment: Deployment, demo: Api) -> None:
    """While the volume is on its way to the server, when it has it, and when both are gone."""
    commands, project = deployment.system.commands, deployment.ids["project demo"]
    fields = {"project_id": project, "status": "available", "bootable": True}
    volume = await commands.create("volume", fields, context(ADMIN))
    disk = {"source_type": "volume", "destination_type": "volume", "uuid": volume.id, "boot_index": 0}
    wanted = {"name": "again", "flavorRef": "1", "networks": "none", "block_device_mapping_v2": [disk]}
    given = {"Idempotency-Key": str(uuid4())}

    async def create(**changes: Any) -> httpx.Response:
        return await demo.send("POST", "/servers", {"server": wanted | changes}, **given)

    answers = await asyncio.gather(*(create() for _ in range(3)))
    server_id = answers[0].json()["server"]["id"]
    await demo.settle(server_id)
    answers.append(await create())
    assert (await create(name="another")).status_code == 422
    found = cast(Volume, await commands.load("volume", volume.id))
    assert (found.status, [one["server_id"] for one in found.attachments]) == ("in-use", [server_id])
    assert (await demo.send("DELETE", f"/servers/{server_id}")).status_code == 204
    await demo.settle(server_id)
    answers.append(await create())
    assert {(answer.status_code, answer.json()["server"]["id"]) for answer in answers} == {(202, server_id)}
    assert cast(Volume, await commands.load("volume", volume.id)).status == "available"


async def test_metadata_and_tags(demo: Api) -> None:
    server_id = await demo.create("described", metadata={"a": "1"})
    path = f"/servers/{server_id}"
    assert (await demo.send("POST", f"{path}/metadata", {"metadata": {"b": "2"}})).json() == {
        "metadata": {"a": "1", "b": "2"}
    }
    assert (await demo.send("DELETE", f"{path}/metadata/a")).status_code == 204
    assert (await demo.send("PUT", f"{path}/metadata", {"metadata": {"c": "3"}})).json() == {"metadata": {"c": "3"}}
    added = await asyncio.gather(*(demo.send("PUT", f"{path}/tags/t{number}") for number in range(5)))
    assert {one.status_code for one in added} == {201}
    assert sorted((await demo.get(f"{path}/tags"))["tags"]) == [f"t{number}" for number in range(5)]
    assert (await demo.send("PUT", f"{path}/tags/t1")).status_code == 204
    assert (await demo.send("DELETE", f"{path}/tags")).status_code == 204


async def test_if_match_refuses_an_older_view(demo: Api) -> None:
    server_id = await demo.create("versioned")
    etag = (await demo.send("GET", f"/servers/{server_id}")).headers["etag"]
    body = {"server": {"name": "renamed"}}
    assert (await demo.send("PUT", f"/servers/{server_id}", body, **{"If-Match": etag})).status_code == 200
    assert (await demo.send("PUT", f"/servers/{server_id}", body, **{"If-Match": etag})).status_code == 412


async def test_images_are_there_from_acceptance_and_not_after_a_refusal(deployment: Deployment, demo: Api) -> None:
    server_id = await demo.create("pictured")
    answer = await demo.send("POST", f"/servers/{server_id}/action", {"createImage": {"name": "snap"}})
    image_id = answer.json()["image_id"]
    assert await deployment.system.read.resource("image", image_id) is not None
    await demo.settle(server_id)
    image = await deployment.system.read.resource("image", image_id)
    assert image is not None
    assert getattr(image, "status", "") == "active"
    await demo.act(server_id, {"shelve": None})
    before = len(await deployment.system.read.resources("image"))
    refused = await demo.send("POST", f"/servers/{server_id}/action", {"createImage": {"name": "late"}})
    assert refused.status_code == 409
    assert len(await deployment.system.read.resources("image")) == before


async def test_an_empty_password_is_taken_as_given_and_not_replaced(demo: Api) -> None:
    ids = demo.deployment.ids
    wanted = {"name": "open", "flavorRef": "1", "imageRef": ids["image"], "networks": "none", "adminPass": ""}
    made = (await demo.send("POST", "/servers", {"server": wanted})).json()["server"]
    assert made["adminPass"] == ""
    await demo.settle(made["id"])
    rebuilt = await demo.act(made["id"], {"rebuild": {"imageRef": ids["image"], "adminPass": ""}})
    assert rebuilt.json()["server"]["adminPass"] == ""
    assert (await demo.act(made["id"], {"rescue": {"adminPass": ""}})).json() == {"adminPass": ""}
    assert (await demo.get(f"/servers/{made['id']}"))["server"]["status"] == "RESCUE"
    assert len((await demo.act(made["id"], {"unrescue": None})).text) == 0
    assert len((await demo.act(made["id"], {"rescue": None})).json()["adminPass"]) == 12


async def test_consoles_are_opened_by_a_token_that_says_what_for(demo: Api, admin: Api) -> None:
    server_id = await demo.create("watched")
    wanted = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    console = (await demo.send("POST", f"/servers/{server_id}/remote-consoles", wanted)).json()["remote_console"]
    token = console["url"].partition("%3Ftoken%3D")[2]
    granted = (await admin.get(f"/os-console-auth-tokens/{token}"))["console"]
    assert granted["instance_uuid"] == server_id
    assert (await admin.send("GET", "/os-console-auth-tokens/nonsense")).status_code == 404
    output = await demo.send("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": {"length": 5}})
    assert output.status_code == 200
    assert "output" in output.json()


async def test_groups_keep_servers_apart_and_count_members(demo: Api) -> None:
    wanted = {"server_group": {"name": "apart", "policy": "anti-affinity"}}
    group = (await demo.send("POST", "/os-server-groups", wanted)).json()["server_group"]
    admin = Api(demo.deployment, "admin")
    made = [await demo.create(f"apart-{number}", hints={"group": group["id"]}) for number in range(3)]
    hosts = {(await admin.get(f"/servers/{one}"))["server"]["OS-EXT-SRV-ATTR:host"] for one in made}
    assert len(hosts) == 3
    assert (await demo.get(f"/os-server-groups/{group['id']}"))["server_group"]["members"] == made
    fourth = await demo.create("apart-3", hints={"group": group["id"]})
    assert (await demo.get(f"/servers/{fourth}"))["server"]["status"] == "ERROR"


def _names(body: dict[str, Any]) -> list[str]:
    return [one["name"] for one in body["servers"]]


_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMdDfumvTJleEpgohqYY5dq5xicytjjNcPMO3x54cKzp me@here"
