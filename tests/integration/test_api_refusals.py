"""Every refused change is recorded once, whatever refused it; reads and trials are not; secrets are not shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
import pytest_asyncio

from commands.streams import REJECTIONS
from tests.deployment import Deployment, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOBODY = "533eca0f-03d2-461a-82cc-824cc975ae86"
SERVER = {"name": "x", "flavorRef": "1", "imageRef": NOBODY, "networks": "none", "adminPass": "hunter2"}

REFUSED: list[tuple[str, str, Any, str, str]] = [
    ("POST", "/compute/v2.1/servers", {"server": SERVER}, "server", "create"),
    ("POST", "/compute/v2.1/servers", {"server": SERVER | {"flavorRef": "nope"}}, "server", "create"),
    ("POST", f"/compute/v2.1/servers/{NOBODY}/action", {"os-stop": None}, "server", "stop"),
    (
        "POST",
        f"/compute/v2.1/servers/{NOBODY}/os-volume_attachments",
        {"volumeAttachment": {"volumeId": NOBODY}},
        "server",
        "attach-volume",
    ),
    ("DELETE", f"/compute/v2.1/servers/{NOBODY}/os-interface/{NOBODY}", None, "server", "detach-interface"),
    ("PUT", f"/compute/v2.1/servers/{NOBODY}/tags/a,b", None, "server", "tags"),
    ("PUT", f"/compute/v2.1/servers/{NOBODY}/metadata/a", {"meta": {"a": "b"}}, "server", "metadata-set"),
    ("POST", "/compute/v2.1/flavors", {"flavor": {"name": "x", "vcpus": 1, "ram": 1, "disk": 1}}, "flavor", "create"),
    ("DELETE", "/compute/v2.1/os-keypairs/nope", None, "keypair", "delete"),
    ("PUT", f"/network/v2.0/networks/{NOBODY}", {"network": {"name": "x"}}, "network", "update"),
    ("DELETE", f"/image/v2/images/{NOBODY}", None, "image", "delete"),
    ("POST", "/network/v2.0/subnets", {"subnet": {"network_id": "", "cidr": "10.0.0.0/24"}}, "subnet", "create"),
    ("POST", "/network/v2.0/ports", {"port": {"network_id": ""}}, "port", "create"),
    ("POST", "/volume/v3/snapshots", {"snapshot": {"volume_id": ""}}, "volume_snapshot", "create"),
    ("POST", "/volume/v3/types", {"volume_type": {"name": "x"}}, "types", "create"),
    ("POST", "/volume/v3/volumes", {"volume": {"size": 0}}, "volume", "create"),
    ("POST", "/identity/v3/users", {"user": {"name": "x", "password": "hunter2"}}, "user", "create"),
    ("POST", "/v1/commands", {"type": "set-password", "params": {"password": "hunter2"}}, "server", "set-password"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running_api(tmp_path_factory.mktemp("refusals")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("demo") as client:
        yield client


async def recorded(api: Deployment, answer: httpx.Response) -> list[dict[str, Any]]:
    """The rejections of one request, once what was published before this call is in the stream."""
    await api.services.log.nc.flush()
    js, found = api.services.log.js, []
    state = (await js.stream_info(REJECTIONS)).state
    for sequence in range(max(1, state.first_seq), state.last_seq + 1):
        one = msgspec.json.decode((await js.get_msg(REJECTIONS, sequence)).data or b"")
        if one["request_id"] == answer.headers["x-openstack-request-id"]:
            found.append(one)
    return found


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "command"), REFUSED, ids=[f"{one[0]} {one[1]} {one[4]}" for one in REFUSED]
)
async def test_a_refused_change_is_recorded_once(
    api: Deployment, demo: httpx.AsyncClient, method: str, path: str, body: Any, kind: str, command: str
) -> None:
    answer = await demo.request(method, path, json=body)
    assert 400 <= answer.status_code < 500 or answer.status_code == 501
    async with asyncio.timeout(60):
        while not (found := await recorded(api, answer)):
            await asyncio.sleep(0.02)
    (one,) = found
    assert (one["kind"], one["command"], one["code"]) == (kind, command, answer.status_code)
    assert one["actor"]["user_name"] == "demo"
    assert one["message"]
    assert b"hunter2" not in msgspec.json.encode(one)


async def test_reads_trials_and_repeats_are_not_recorded(api: Deployment, demo: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    body = {"network": {"name": "x", "project_id": NOBODY}}
    first = await demo.post("/network/v2.0/networks", json=body, headers=key)
    quiet = [
        await demo.get(f"/network/v2.0/networks/{NOBODY}"),
        await demo.post("/v1/commands?dry_run=true", json={"type": "stop", "server_id": NOBODY}),
        await demo.post("/network/v2.0/networks", json=body, headers=key),
    ]
    assert [answer.status_code for answer in quiet] == [404, 404, 403]
    async with asyncio.timeout(60):
        while len(await recorded(api, first)) != 1:
            await asyncio.sleep(0.02)
    for answer in quiet:
        assert await recorded(api, answer) == []
