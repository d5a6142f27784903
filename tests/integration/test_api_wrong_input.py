"""What users get wrong: the status that Nova answers, a sentence that says what is wrong, and nothing half done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import httpx
import pytest
import pytest_asyncio

from api.compute import actions_access
from tests.conformance.deployment import WAIT_SECONDS, Deployment, running
from tests.conformance.replay import Replay
from tests.system import ADMIN, context

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = "533eca0f-03d2-461a-82cc-824cc975ae86"
IMAGES: dict[str, dict[str, Any]] = {
    "queued": {"status": "queued"},
    "large": {"status": "active", "min_disk": 50},
    "greedy": {"status": "active", "min_ram": 9999},
}


def image(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"wrong {name}"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running(tmp_path_factory.mktemp("wrong")) as opened:
        commands = opened.system.commands
        for name, fields in IMAGES.items():
            shown = {
                "name": name,
                "visibility": "public",
                "disk_format": "qcow2",
                "container_format": "bare",
                "size": 1,
            }
            await commands.create("image", shown | fields, context(ADMIN), id=image(name))
        flavor = {"name": "nodisk", "flavor_id": "nodisk", "vcpus": 1, "ram": 512, "disk": 0}
        await commands.create("flavor", flavor, context(ADMIN))
        yield opened


async def send(deployment: Deployment, method: str, path: str, body: Any) -> httpx.Response:
    headers = {"OpenStack-API-Version": "compute 2.96"}
    return await deployment.clients["demo"].request(method, f"/compute/v2.1{path}", json=body, headers=headers)


def request_of(deployment: Deployment, **fields: Any) -> dict[str, Any]:
    ids = {"{image}": deployment.ids["image"], "{network}": deployment.ids["network"]}
    base = {"name": "x", "flavorRef": "1", "imageRef": "{image}", "networks": "none"}
    return {"server": _with(base | fields, ids)}


def _with(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _with(one, ids) for key, one in value.items()}
    if isinstance(value, list):
        return [_with(one, ids) for one in value]
    return ids.get(value, value) if isinstance(value, str) else value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(deployment: Deployment) -> str:
    """An ACTIVE server with a port."""
    answer = await send(deployment, "POST", "/servers", request_of(deployment, networks=[{"uuid": "{network}"}]))
    server_id: str = answer.json()["server"]["id"]
    await Replay(deployment)._settle(server_id)
    return server_id


def told(answer: httpx.Response) -> str:
    (fault,) = answer.json().values()
    return str(fault["message"])


CREATE: list[tuple[str, dict[str, Any], int, str]] = [
    ("flavor", {"flavorRef": "nope"}, 400, "Flavor nope could not be found."),
    ("image", {"imageRef": NOBODY}, 400, f"Image {NOBODY} could not be found."),
    ("no image", {"imageRef": ""}, 400, "Invalid imageRef provided. Name an image"),
    ("image not active", {"imageRef": image("queued")}, 400, f"Image {image('queued')} is not active."),
    ("image larger", {"imageRef": image("large")}, 400, "Flavor's disk is smaller than the minimum size specified"),
    ("image greedy", {"imageRef": image("greedy")}, 400, "Flavor's memory is too small for requested image."),
    ("network", {"networks": [{"uuid": NOBODY}]}, 400, f"Network {NOBODY} could not be found."),
    ("port", {"networks": [{"port": NOBODY}]}, 400, f"Port {NOBODY} could not be found."),
    ("key", {"key_name": "nokey"}, 400, "Invalid key_name provided. The user has no key pair named nokey."),
    ("zone", {"availability_zone": "nozone"}, 400, "The requested availability zone is not available"),
    ("group", {"security_groups": [{"name": "nogroup"}]}, 400, "Unable to find security_group with name or id"),
    ("counts", {"min_count": 3, "max_count": 2}, 400, "min_count must be <= max_count"),
    (
        "one address for two",
        {"min_count": 2, "networks": [{"uuid": "{network}", "fixed_ip": "10.9.0.77"}]},
        400,
        "Unable to launch multiple instances with a single configured fixed IP.",
    ),
]


@pytest.mark.parametrize(("fields", "code", "words"), [one[1:] for one in CREATE], ids=[one[0] for one in CREATE])
async def test_a_server_that_cannot_be(deployment: Deployment, fields: dict[str, Any], code: int, words: str) -> None:
    await deployment.system.quiet()
    before = await deployment.system.log.last_position()
    answer = await send(deployment, "POST", "/servers", request_of(deployment, **fields))
    assert (answer.status_code, told(answer)[: len(words)]) == (code, words)
    assert await deployment.system.log.last_position() == before


ACTIONS: list[tuple[str, dict[str, Any], int, str]] = [
    (
        "rescue image",
        {"rescue": {"rescue_image_ref": NOBODY}},
        400,
        f"Requested rescue image '{NOBODY}' is not supported. There is no such image.",
    ),
    (
        "rescue with queued",
        {"rescue": {"rescue_image_ref": image("queued")}},
        400,
        f"Requested rescue image '{image('queued')}' is not supported. It is queued, not active.",
    ),
    ("resize to nothing", {"resize": {"flavorRef": "nope"}}, 400, "Flavor nope could not be found."),
    ("resize to the same", {"resize": {"flavorRef": "1"}}, 400, "When resizing, instances must change flavor!"),
    (
        "resize too small",
        {"resize": {"flavorRef": "nodisk"}},
        400,
        "Flavor's disk is too small for requested image. The disk has 1 GB and cannot shrink to 0 GB.",
    ),
    ("rebuild image", {"rebuild": {"imageRef": NOBODY}}, 400, "Cannot find image for rebuild."),
    ("rebuild with queued", {"rebuild": {"imageRef": image("queued")}}, 400, f"Image {image('queued')} is not active."),
    (
        "rebuild larger",
        {"rebuild": {"imageRef": image("large")}},
        400,
        "Flavor's disk is smaller than the minimum size",
    ),
    ("confirm", {"confirmResize": None}, 409, "Cannot 'confirmResize' instance"),
    ("unrescue", {"unrescue": None}, 409, "Cannot 'unrescue' instance"),
    ("group", {"addSecurityGroup": {"name": "nogroup"}}, 404, "Security group nogroup not found"),
    ("two at once", {"os-stop": None, "pause": None}, 400, "Additional properties are not allowed ('pause'"),
]


@pytest.mark.parametrize(("body", "code", "words"), [one[1:] for one in ACTIONS], ids=[one[0] for one in ACTIONS])
async def test_an_action_that_cannot_be(
    deployment: Deployment, server: str, body: dict[str, Any], code: int, words: str
) -> None:
    before = await deployment.system.server(server)
    answer = await send(deployment, "POST", f"/servers/{server}/action", body)
    assert (answer.status_code, told(answer)[: len(words)]) == (code, words)
    assert await deployment.system.server(server) == before


async def test_an_address_or_port_that_is_in_use(deployment: Deployment, server: str) -> None:
    attached = (await send(deployment, "GET", f"/servers/{server}/os-interface", None)).json()
    (nic,) = attached["interfaceAttachments"]
    address, port_id = nic["fixed_ips"][0]["ip_address"], nic["port_id"]
    taken = request_of(deployment, networks=[{"uuid": "{network}", "fixed_ip": address}])
    answer = await send(deployment, "POST", "/servers", taken)
    assert (answer.status_code, f"{address} is already in use" in told(answer)) == (400, True)
    answer = await send(deployment, "POST", "/servers", request_of(deployment, networks=[{"port": port_id}]))
    assert (answer.status_code, f"Port {port_id} is still in use." in told(answer)) == (409, True)
    wanted = {"interfaceAttachment": {"port_id": port_id}}
    answer = await send(deployment, "POST", f"/servers/{server}/os-interface", wanted)
    assert (answer.status_code, f"Port {port_id} is still in use." in told(answer)) == (409, True)
    wanted = {"interfaceAttachment": {"net_id": nic["net_id"], "fixed_ips": [{"ip_address": address}]}}
    answer = await send(deployment, "POST", f"/servers/{server}/os-interface", wanted)
    assert (answer.status_code, f"Fixed IP address {address} is already in use." in told(answer)) == (409, True)
    wanted = {"interfaceAttachment": {"net_id": NOBODY}}
    answer = await send(deployment, "POST", f"/servers/{server}/os-interface", wanted)
    assert (answer.status_code, told(answer)) == (404, f"Network {NOBODY} could not be found.")


NOTHING: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("resize", "POST", "action", {"resize": {"flavorRef": "nope"}}),
    ("rebuild", "POST", "action", {"rebuild": {"imageRef": NOBODY}}),
    ("rescue", "POST", "action", {"rescue": {"rescue_image_ref": NOBODY}}),
    ("volume", "POST", "os-volume_attachments", {"volumeAttachment": {"volumeId": NOBODY}}),
    ("network", "POST", "os-interface", {"interfaceAttachment": {"net_id": NOBODY}}),
    ("port", "POST", "os-interface", {"interfaceAttachment": {"port_id": NOBODY}}),
    ("detach", "DELETE", f"os-interface/{NOBODY}", None),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(deployment: Deployment) -> str:
    """An ACTIVE server that its owner locked."""
    answer = await send(deployment, "POST", "/servers", request_of(deployment, networks=[{"uuid": "{network}"}]))
    server_id: str = answer.json()["server"]["id"]
    await Replay(deployment)._settle(server_id)
    assert (await send(deployment, "POST", f"/servers/{server_id}/action", {"lock": None})).status_code == 202
    return server_id


@pytest.mark.parametrize(("method", "path", "body"), [one[1:] for one in NOTHING], ids=[one[0] for one in NOTHING])
async def test_the_server_s_state_is_told_before_what_is_not_there(
    deployment: Deployment, locked: str, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await send(deployment, method, f"/servers/{locked}/{path}", body)
    assert (answer.status_code, told(answer)) == (
        409,
        f"Instance {locked} is locked. Unlock the server first, or ask an administrator.",
    )


async def test_a_rebuild_keeps_nothing(deployment: Deployment, server: str) -> None:
    shown = (await send(deployment, "GET", f"/servers/{server}", None)).json()["server"]
    body = {"rebuild": {"imageRef": shown["image"]["id"], "preserve_ephemeral": True}}
    before = await deployment.system.server(server)
    answer = await send(deployment, "POST", f"/servers/{server}/action", body)
    words = "The current driver does not support preserving ephemeral partitions. The new disk begins empty"
    assert (answer.status_code, told(answer)[: len(words)]) == (400, words)
    assert await deployment.system.server(server) == before


async def test_a_password_that_was_not_set_is_a_conflict(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions_access, "PASSWORD_SECONDS", WAIT_SECONDS)  # a guest that is slower is told 202
    body = request_of(deployment, name="fail-set-password", networks=[{"uuid": "{network}"}])
    server_id: str = (await send(deployment, "POST", "/servers", body)).json()["server"]["id"]
    await Replay(deployment)._settle(server_id)
    answer = await send(deployment, "POST", f"/servers/{server_id}/action", {"changePassword": {"adminPass": "Sesame"}})
    words = f"Failed to set admin password on {server_id} because "
    assert (answer.status_code, told(answer)[: len(words)]) == (409, words)
    assert not told(answer).startswith(f"{words}None")
    actions = (await send(deployment, "GET", f"/servers/{server_id}/os-instance-actions", None)).json()
    assert actions["instanceActions"][0]["action"] == "changePassword"


async def test_a_console_of_another_protocol_is_told_whose_it_is(deployment: Deployment, server: str) -> None:
    for protocol, kind, words in (
        ("vnc", "serial", "Invalid console type serial. It is of the protocol serial, not vnc."),
        ("serial", "novnc", "Invalid console type novnc. It is of the protocol vnc, not serial."),
        ("vnc", "spice-html5", "Invalid console type spice-html5. With vnc it is novnc."),
        ("spice", "spice-html5", "Unavailable console type spice-html5. There is novnc and serial."),
    ):
        wanted = {"remote_console": {"protocol": protocol, "type": kind}}
        answer = await send(deployment, "POST", f"/servers/{server}/remote-consoles", wanted)
        assert (answer.status_code, told(answer)) == (400, words)


async def test_changes_of_tags_are_named_as_nova_names_them(deployment: Deployment) -> None:
    answer = await send(deployment, "POST", "/servers", request_of(deployment, networks=[{"uuid": "{network}"}]))
    server_id: str = answer.json()["server"]["id"]
    await Replay(deployment)._settle(server_id)
    assert (await send(deployment, "GET", f"/servers/{server_id}/tags/none", None)).status_code == 404
    for state in ("os-stop", "shelve"):  # offloaded in the same action
        await send(deployment, "POST", f"/servers/{server_id}/action", {state: None})
        await Replay(deployment)._settle(server_id)
    for method, path, body, verb in (
        ("PUT", "/one", None, "update tag"),
        ("PUT", "", {"tags": ["one"]}, "update tags"),
        ("DELETE", "/one", None, "delete tag"),
        ("DELETE", "", None, "delete tags"),
    ):
        answer = await send(deployment, method, f"/servers/{server_id}/tags{path}", body)
        assert (answer.status_code, f"Cannot '{verb}' instance {server_id}" in told(answer)) == (409, True), verb


async def test_a_network_without_a_free_address(deployment: Deployment) -> None:
    commands, project = deployment.system.commands, deployment.ids["project demo"]
    network = await commands.create("network", {"name": "tiny", "project_id": project}, context(ADMIN))
    subnet = {
        "name": "tiny",
        "project_id": project,
        "network_id": network.id,
        "cidr": "10.66.0.0/30",
        "gateway_ip": "10.66.0.1",
        "allocation_pools": [["10.66.0.2", "10.66.0.2"]],
        "ip_version": 4,
    }
    await commands.create("subnet", subnet, context(ADMIN))
    wanted = request_of(deployment, networks=[{"uuid": network.id}])
    replay = Replay(deployment)
    servers = [(await send(deployment, "POST", "/servers", wanted)).json()["server"]["id"] for _ in range(2)]
    first, second = [await replay._settle(server_id) for server_id in servers]
    assert first is not None
    assert second is not None
    assert {first["status"], second["status"]} == {"ACTIVE", "ERROR"}
    failed = servers[0] if first["status"] == "ERROR" else servers[1]
    state = await deployment.system.server(failed)
    assert state.fault is not None
    assert "address" in state.fault.message
    assert (state.host, state.interfaces) == (None, ())
