"""What a hostile or hasty client sends to the compute API: deep bodies, impossible times, many requests at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conformance.deployment import Deployment, running
from tests.system import ADMIN, context

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = "/compute/v2.1/servers"
NEWEST = {"OpenStack-API-Version": "compute 2.96"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running(tmp_path_factory.mktemp("edges")) as opened:
        yield opened


def wanted(deployment: Deployment, name: str) -> dict[str, object]:
    return {"server": {"name": name, "flavorRef": "1", "imageRef": deployment.ids["image"], "networks": "none"}}


@pytest.mark.parametrize(
    "body", ["[" * 200_000, '{"a":' * 200_000, '{"server":' * 90 + "{}" + "}" * 90], ids=["lists", "objects", "whole"]
)
async def test_a_deeply_nested_body_is_refused(deployment: Deployment, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await deployment.clients["demo"].post(SERVERS, content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert "Malformed" in answer.text
    answer = await deployment.clients["demo"].post(
        f"{SERVERS}/x/action", content=body, headers=headers | {"Idempotency-Key": "deep"}
    )
    assert answer.status_code == 400, answer.text


async def test_a_body_that_is_said_to_be_something_else_is_refused(deployment: Deployment) -> None:
    client, headers = deployment.clients["demo"], {"Content-Type": "application/xml"}
    answer = await client.post(SERVERS, content="<server/>", headers=headers)
    assert answer.status_code == 415, answer.text
    assert "Unsupported Content-Type" in answer.json()["badMediaType"]["message"]


@pytest.mark.parametrize(
    "query",
    [
        "detail?changes-since=0001-01-01T00:00:00%2B23:59",
        "detail?changes-before=9999-12-31T23:59:59-23:59",
        "detail?changes-since=9999-12-31T23:59:59-23:59",
    ],
)
async def test_a_time_outside_all_years_is_refused(deployment: Deployment, query: str) -> None:
    answer = await deployment.clients["demo"].get(f"{SERVERS}/{query}", headers=NEWEST)
    assert answer.status_code == 400, answer.text


async def test_usage_of_impossible_times_is_refused(deployment: Deployment) -> None:
    path = "/compute/v2.1/os-simple-tenant-usage"
    for query in ("start=0001-01-01T00:00:00%2B23:59", "end=9999-12-31T23:59:59-23:59"):
        answer = await deployment.clients["admin"].get(f"{path}?{query}")
        assert answer.status_code == 400, answer.text


async def test_creations_at_once_get_exactly_the_room_there_is(deployment: Deployment) -> None:
    commands, project = deployment.system.commands, deployment.ids["project other"]
    await commands.update("project", project, {"quotas": {"instances": 2}}, context(ADMIN))
    client = deployment.clients["other"]
    answers = await asyncio.gather(
        *(client.post(SERVERS, json=wanted(deployment, f"race-{i}"), headers=NEWEST) for i in range(20))
    )
    assert Counter(answer.status_code for answer in answers) == {202: 2, 403: 18}


async def test_writers_of_different_keys_all_get_through(deployment: Deployment) -> None:
    client = deployment.clients["demo"]
    server_id = (await client.post(SERVERS, json=wanted(deployment, "busy"), headers=NEWEST)).json()["server"]["id"]
    async with asyncio.timeout(60):
        while True:
            server = await deployment.system.read.server(server_id)
            if server is not None and server.operation is None:
                break
            await asyncio.sleep(0.02)
    answers = await asyncio.gather(
        *(client.put(f"{SERVERS}/{server_id}/metadata/k{i}", json={"meta": {f"k{i}": str(i)}}) for i in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}
    shown = (await client.get(f"{SERVERS}/{server_id}")).json()["server"]
    assert len(shown["metadata"]) == 20


@pytest.mark.parametrize("more", ["=", "A", ".", "AAAA", "%20"])
async def test_a_token_with_more_behind_it_is_refused(deployment: Deployment, more: str) -> None:
    client = deployment.clients["demo"]
    token = client.headers["X-Auth-Token"]
    assert (await client.get(SERVERS)).status_code == 200
    assert (await client.get(SERVERS, headers={"X-Auth-Token": token + more})).status_code == 401
    assert (await client.get(SERVERS, headers={"X-Auth-Token": token[:-1]})).status_code == 401
