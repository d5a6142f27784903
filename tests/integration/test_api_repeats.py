"""Idempotency-Key through every API: one resource, one answer, a refusal that stays one, 422 for another request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from commands.streams import IDEMPOTENCY
from tests.deployment import Deployment, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREATIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("/compute/v2.1/flavors", "flavor", {"name": "twice", "vcpus": 1, "ram": 64, "disk": 1}),
    ("/compute/v2.1/os-keypairs", "keypair", {"name": "twice"}),
    ("/compute/v2.1/os-server-groups", "server_group", {"name": "twice", "policies": ["affinity"]}),
    ("/network/v2.0/networks", "network", {"name": "twice"}),
    ("/network/v2.0/security-groups", "security_group", {"name": "twice"}),
    ("/identity/v3/users", "user", {"name": "twice", "password": "a long enough password"}),
    ("/identity/v3/projects", "project", {"name": "twice"}),
    ("/identity/v3/roles", "role", {"name": "twice"}),
    ("/volume/v3/volumes", "volume", {"name": "twice", "size": 1}),
    ("/image/v2/images", "", {"name": "twice"}),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running_api(tmp_path_factory.mktemp("repeats")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("admin") as client:
        yield client


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


async def test_a_large_answer_is_kept_as_it_was(admin: httpx.AsyncClient) -> None:
    flavor = {"name": "large", "id": "large", "vcpus": 1, "ram": 64, "disk": 1}
    assert (await admin.post("/compute/v2.1/flavors", json={"flavor": flavor})).status_code == 200
    specs = {f"key:{number}": token_hex(120) for number in range(400)}
    given, path = key(), "/compute/v2.1/flavors/large/os-extra_specs"
    first = await admin.post(path, json={"extra_specs": specs}, headers=given)
    assert first.status_code == 200, first.text
    assert len(first.content) > 96 << 10
    assert (await admin.delete(f"{path}/key:1")).status_code == 200
    again = await admin.post(path, json={"extra_specs": specs}, headers=given)
    assert again.content == first.content
    assert "key:1" not in (await admin.get(path)).json()["extra_specs"]


@pytest.mark.parametrize(("path", "wrapper", "fields"), CREATIONS, ids=[path for path, _, _ in CREATIONS])
async def test_creating_twice_with_one_key_makes_one(
    admin: httpx.AsyncClient, path: str, wrapper: str, fields: dict[str, Any]
) -> None:
    body = {wrapper: fields} if wrapper else fields
    given = key()
    answers = await asyncio.gather(*(admin.post(path, json=body, headers=given) for _ in range(3)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202}, answers[0].text
    assert len({answer.text for answer in answers}) == 1
    again = await admin.post(path, json=body, headers=given)
    assert again.text == answers[0].text
    assert again.headers["x-openstack-request-id"] != answers[0].headers["x-openstack-request-id"]
    other = fields | {"name": "another"}
    refused = await admin.post(path, json={wrapper: other} if wrapper else other, headers=given)
    assert refused.status_code == 422
    assert "InternalServerError" not in refused.text


async def test_changing_and_deleting_twice_with_one_key(admin: httpx.AsyncClient) -> None:
    made = (await admin.post("/network/v2.0/networks", json={"network": {"name": "once"}})).json()["network"]
    path, given = f"/network/v2.0/networks/{made['id']}", key()
    renamed = [await admin.put(path, json={"network": {"name": "new"}}, headers=given) for _ in range(2)]
    assert renamed[0].json() == renamed[1].json()
    assert (await admin.put(path, json={"network": {"name": "other"}}, headers=given)).status_code == 422
    given = key()
    assert [(await admin.delete(path, headers=given)).status_code for _ in range(2)] == [204, 204]
    assert (await admin.delete(path, headers=key())).status_code == 404


async def test_a_refusal_is_kept_and_belongs_to_its_caller(api: Deployment, admin: httpx.AsyncClient) -> None:
    given, body = key(), {"network": {"name": "refused", "project_id": str(uuid4())}}
    async with api.signed_in("demo") as demo:
        first = await demo.post("/network/v2.0/networks", json=body, headers=given)
        again = await demo.post("/network/v2.0/networks", json=body, headers=given)
    assert first.status_code == again.status_code == 403
    assert first.json() == again.json()
    mine = await admin.post("/network/v2.0/networks", json={"network": {"name": "mine"}}, headers=given)
    assert mine.status_code == 201


async def test_a_request_without_a_key_keeps_nothing(api: Deployment, admin: httpx.AsyncClient) -> None:
    before = (await api.services.log.js.stream_info(IDEMPOTENCY)).state.last_seq
    assert (await admin.post("/network/v2.0/networks", json={"network": {"name": "plain"}})).status_code == 201
    assert (await api.services.log.js.stream_info(IDEMPOTENCY)).state.last_seq == before


async def test_a_key_that_is_none_is_400(admin: httpx.AsyncClient) -> None:
    for wrong in ("", "x" * 256):
        answer = await admin.post(
            "/network/v2.0/networks", json={"network": {"name": "x"}}, headers={"Idempotency-Key": wrong}
        )
        assert answer.status_code == 400
