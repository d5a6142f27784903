"""What every API shares, on a running one: request ids, limits, errors that never show a traceback, operations."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import yaml

from api import operations
from api.bootstrap import CLOUDS, FLAVORS, PROJECTS, USERS, bootstrap
from tests.deployment import WAIT_SECONDS, Deployment, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")
REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running_api(tmp_path_factory.mktemp("foundation"), trust_forwarded=True) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("admin") as client:
        yield client


async def test_every_answer_has_a_request_id_of_its_own(admin: httpx.AsyncClient) -> None:
    given = "req-11111111-2222-3333-4444-555555555555"
    for headers in ({}, {"X-Openstack-Request-Id": given}, {"X-Openstack-Request-Id": "nonsense"}):
        answer = await admin.get("/compute/v2.1/flavors", headers=headers)
        found = answer.headers["x-openstack-request-id"]
        assert REQUEST_ID.fullmatch(found)
        assert found != given
        assert answer.headers["x-compute-request-id"] == found


async def test_a_body_over_the_limit_is_413_declared_or_not(admin: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    headers = {"content-type": "application/json"}
    for content in (b"x" * 3_000_000, chunks()):
        answer = await admin.post("/network/v2.0/networks", content=content, headers=headers)
        assert answer.status_code == 413
        assert "NeutronError" in answer.json()


async def test_other_media_types_are_415(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/network/v2.0/networks", data={"network": "x"})
    assert answer.status_code == 415


async def test_forwarded_headers_are_used_and_checked(api: Deployment) -> None:
    async with api.client() as client:
        sent = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "cloud.example", "X-Forwarded-Prefix": "/os"}
        body = (await client.get("/volume/v3", headers=sent)).json()
        assert body["versions"][0]["links"][0]["href"] == "https://cloud.example/os/volume/v3/"
        evil = {"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": 'x"><script>', "X-Forwarded-Prefix": "//evil"}
        href = (await client.get("/volume/v3", headers=evil)).json()["versions"][0]["links"][0]["href"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/volume/v3/", href)


async def test_health_readiness_metrics_and_description(api: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "READY_SECONDS", WAIT_SECONDS)  # a log that is slower counts as away
    async with api.client() as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = (await client.get("/readyz")).json()
        assert ready["status"] == "ready"
        assert ready["log_position"] > 20
        text = (await client.get("/metrics")).text
        assert "chronova_log_connected 1.0" in text
        assert "chronova_api_requests_total" in text
        described = (await client.get("/openapi.json")).json()
    assert described["paths"]["/identity/v3/auth/tokens"]["post"]["summary"].startswith("Sign in")
    assert "/network/v2.0/ports/{id}" in described["paths"]
    action = described["paths"]["/compute/v2.1/servers/{server_id}/action"]["post"]
    assert action["x-openstack-microversions"] == {"min": "2.1", "max": "2.96"}
    tag = described["paths"]["/compute/v2.1/servers/{server_id}/tags/{tag_id}"]["put"]
    assert [one["name"] for one in tag["parameters"]] == ["server_id", "tag_id"]
    assert described["paths"]["/compute/v2.1/os-fping"]["get"]["deprecated"]


async def test_a_cookie_signs_reads_in_and_foreign_sites_change_nothing(api: Deployment) -> None:
    token = (await api.sign_in("demo")).headers["x-subject-token"]
    async with api.client() as client:
        client.cookies.set("chronova_token", token)
        assert (await client.get("/v1/servers")).status_code == 200
        assert (await client.get("/network/v2.0/networks")).status_code == 401
        foreign = await client.post("/v1/commands", json={}, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        cross = await client.post("/v1/commands", json={}, headers={"Sec-Fetch-Site": "cross-site"})
        assert cross.status_code == 403


WRONG_BODIES: list[object] = [None, 0, "x", [], {}, {"x": {}}, [[]], {"a": None}]
WRONG_FIELDS: list[object] = [None, -1, "x" * 70_000, [], {}, True, 1e308, [{}], "\x00", {"id": 5}, "💥"]


@pytest.mark.timeout(900)  # thousands of requests, on whatever machine
async def test_no_body_makes_the_server_fail(admin: httpx.AsyncClient) -> None:
    """Every route that takes a body gets wrong ones: refused or taken, never a 500."""
    wrapped = {
        "/identity/v3/users": ("user", ["name", "password", "enabled", "default_project_id", "domain_id", "email"]),
        "/identity/v3/projects": ("project", ["name", "description", "enabled", "parent_id", "domain_id"]),
        "/identity/v3/roles": ("role", ["name", "description"]),
        "/network/v2.0/networks": ("network", ["name", "shared", "mtu", "project_id", "admin_state_up"]),
        "/network/v2.0/subnets": ("subnet", ["network_id", "cidr", "ip_version", "allocation_pools", "host_routes"]),
        "/network/v2.0/ports": ("port", ["network_id", "fixed_ips", "mac_address", "security_groups", "device_id"]),
        "/network/v2.0/security-groups": ("security_group", ["name", "description", "project_id"]),
        "/network/v2.0/security-group-rules": ("security_group_rule", ["security_group_id", "protocol", "direction"]),
        "/volume/v3/volumes": ("volume", ["size", "name", "imageRef", "metadata", "snapshot_id", "multiattach"]),
        "/volume/v3/snapshots": ("snapshot", ["volume_id", "name", "metadata"]),
    }
    for path, (key, fields) in wrapped.items():
        bodies: list[object] = [*WRONG_BODIES, *({key: wrong} for wrong in WRONG_BODIES)]
        bodies += [{key: {field: wrong}} for field in fields for wrong in WRONG_FIELDS]
        for body in bodies:
            answer = await admin.post(path, json=body)
            assert answer.status_code < 500, (path, str(body)[:200], answer.text[:300])
    for body in [*WRONG_BODIES, *({"identity": wrong} for wrong in WRONG_FIELDS)]:
        answer = await admin.post("/identity/v3/auth/tokens", json={"auth": body})
        assert 400 <= answer.status_code < 500, (str(body)[:200], answer.text[:300])
    for field in ("id", "name", "tags", "min_disk", "visibility", "disk_format", "owner", "protected", "free"):
        for wrong in WRONG_FIELDS:
            answer = await admin.post("/image/v2/images", json={field: wrong})
            assert answer.status_code < 500, (field, str(wrong)[:200], answer.text[:300])


@pytest.mark.timeout(900)  # thousands of requests, on whatever machine
async def test_no_query_makes_the_server_fail(admin: httpx.AsyncClient) -> None:
    paths = ["/identity/v3/users", "/identity/v3/projects", "/identity/v3/roles", "/identity/v3/role_assignments"]
    paths += ["/image/v2/images", "/network/v2.0/networks", "/network/v2.0/ports", "/network/v2.0/subnets"]
    paths += ["/network/v2.0/security-groups", "/volume/v3/volumes/detail", "/volume/v3/snapshots/detail"]
    keys = ["limit", "marker", "sort", "sort_key", "sort_dir", "name", "enabled", "status", "fields", "tags"]
    keys += ["created_at", "size_min", "bootable", "metadata", "all_tenants", "shared", "id", "effective", "fixed_ips"]
    values = ["", "-1", "x", "0", "99999999999999999999", "%00", "a:b:c", "in:", "[", "💥", "a" * 3000]
    for path in paths:
        for key in keys:
            for value in values:
                answer = await admin.get(path, params={key: value})
                assert answer.status_code < 500, (path, key, value, answer.text[:300])


def sentence(answer: httpx.Response) -> str:
    """What a refusal says, in whichever form its API has."""
    body = answer.json()
    if "errors" in body:
        return str(body["errors"][0]["detail"])
    if "detail" in body:
        return f"{body['detail']}. {body['hint']}"
    (fault,) = body.values()
    return str(fault["message"])


NULL_BODIES = [
    ("/compute/v2.1/servers", {"server": {"name": "x", "metadata": {"k": "a\0b"}}}, "server.metadata.k"),
    ("/v1/commands", {"type": "create", "params": {"tags": ["a", "\0"]}}, "params.tags[1]"),
    ("/network/v2.0/networks", {"network": {"description": "\0"}}, "network.description"),
    ("/volume/v3/volumes", {"volume": {"size": 1, "metadata": {"\0": "v"}}}, "volume.metadata.\ufffd"),
    ("/image/v2/images", {"name": "\0"}, "name"),
    ("/identity/v3/users", {"user": {"name": "x", "email": "a\0"}}, "user.email"),
]


@pytest.mark.parametrize(("path", "body", "place"), NULL_BODIES, ids=[one[0][:9] for one in NULL_BODIES])
async def test_a_null_character_in_a_body_is_refused(
    admin: httpx.AsyncClient, path: str, body: object, place: str
) -> None:
    answer = await admin.post(path, json=body)
    assert answer.status_code == 400, answer.text
    told = f"Malformed request body: {place} holds a null character. Leave the null character out"
    assert sentence(answer) == told


NULL_ADDRESSES = [
    ("/compute/v2.1/servers/%00", "path"),
    ("/compute/v2.1/servers?marker=%00", "query"),
    ("/compute/v2.1/servers?name=a%00b", "query"),
    ("/v1/servers/a%00b", "path"),
    ("/network/v2.0/networks?name=%00", "query"),
    ("/volume/v3/volumes/detail?name=%00", "query"),
    ("/image/v2/images?%00=x", "query"),
    ("/identity/v3/users?name=%00", "query"),
    ("/placement/resource_providers?name=%00", "query"),
    ("/ui/servers/%00", "path"),
]


@pytest.mark.parametrize(("address", "place"), NULL_ADDRESSES, ids=[one[0] for one in NULL_ADDRESSES])
async def test_a_null_character_in_an_address_is_refused(admin: httpx.AsyncClient, address: str, place: str) -> None:
    answer = await admin.get(address)
    assert answer.status_code == 400, answer.text
    assert sentence(answer) == f"The {place} holds a null character (%00). Leave it out"
    assert REQUEST_ID.fullmatch(answer.headers["x-openstack-request-id"])


async def test_a_null_character_in_a_form_is_refused(api: Deployment) -> None:
    token = (await api.sign_in("demo")).headers["x-subject-token"]
    async with api.client() as client:
        answer = await client.post("/ui/login", data={"name": "a\0", "password": "x"})
        assert (answer.status_code, "Leave the null character out" in answer.text) == (400, True)
        client.cookies.set("chronova_token", token)
        answer = await client.post("/ui/logout", data={"csrf": "\0"}, headers={"Origin": api.base_url})
        assert (answer.status_code, "csrf holds a null character" in answer.text) == (400, True)


async def test_a_null_character_in_a_header_never_gets_in(api: Deployment) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(api.base_url).port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Openstack-Request-Id: a\0b\r\n\r\n")
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 60)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_the_first_start_is_repeatable_and_repairs_itself(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        before = await api.services.log.last_position()
        password = api.password("demo")
        await bootstrap(
            api.services.commands, api.services.read, tmp_path, base_url="http://127.0.0.1:1", tiny_image=None
        )
        assert await api.services.log.last_position() == before
        assert api.password("demo") == password
        clouds = yaml.safe_load(await asyncio.to_thread((tmp_path / "clouds.yaml").read_text))["clouds"]
        assert set(clouds) == set(CLOUDS)
        assert clouds["chronova"]["auth"]["auth_url"] == "http://127.0.0.1:1/identity/v3"
        read = api.services.read
        assert {one.name for one in await read.resources("project")} == set(PROJECTS)
        assert {one.name for one in await read.resources("user")} == {user for user, _, _ in USERS}
        assert {one.name for one in await read.resources("flavor")} == {name for _, name, *_ in FLAVORS}
        async with api.signed_in("admin") as admin:
            other = (await admin.get("/identity/v3/users?name=other")).json()["users"][0]["id"]
            assert (await admin.delete(f"/identity/v3/users/{other}")).status_code == 204
        await asyncio.to_thread((tmp_path / "passwords.json").unlink)
    async with running_api(tmp_path) as api:
        assert api.password("demo") != password
        assert (await api.sign_in("demo")).status_code == 201
        assert (await api.sign_in("other")).status_code == 401  # what was deleted stays deleted
