"""Identity v3 on a running API: tokens and their end, users, roles, who may do what."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from commands.context import SERVICE, CommandContext
from domain.resources import User
from tests.deployment import Deployment, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")
DEFAULT = {"id": "default"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running_api(tmp_path_factory.mktemp("identity")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("admin") as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("demo") as client:
        yield client


async def new_user(admin: httpx.AsyncClient, name: str, password: str = "secret") -> str:
    answer = await admin.post("/identity/v3/users", json={"user": {"name": name, "password": password}})
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["user"]["id"]
    return found


async def role_id(client: httpx.AsyncClient, name: str) -> str:
    found: str = (await client.get("/identity/v3/roles", params={"name": name})).json()["roles"][0]["id"]
    return found


def password_body(user: dict[str, Any], **auth: Any) -> dict[str, Any]:
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}} | auth}


async def test_a_token_tells_user_project_roles_and_catalog(api: Deployment) -> None:
    answer = await api.sign_in("demo")
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert token["user"]["name"] == "demo"
    assert token["project"]["name"] == "demo"
    assert {one["name"] for one in token["roles"]} == {"member", "reader"}
    urls = {one["type"]: one["endpoints"][0]["url"] for one in token["catalog"]}
    assert urls["compute"] == f"{api.base_url}/compute/v2.1"
    assert set(urls) == {"identity", "compute", "image", "network", "block-storage", "placement"}
    lives = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=11) < lives <= timedelta(hours=12)


async def test_scopes(api: Deployment) -> None:
    system = (await api.sign_in("admin", scope={"system": {"all": True}})).json()["token"]
    assert system["system"] == {"all": True}
    domain = (await api.sign_in("admin", scope={"domain": {"name": "Default"}})).json()["token"]
    assert domain["domain"]["id"] == "default"
    bare = (await api.sign_in("demo", scope="unscoped")).json()["token"]
    assert "project" not in bare
    assert "catalog" not in bare
    assert (await api.sign_in("demo", scope={"system": {"all": True}})).status_code == 401
    assert (await api.sign_in("demo", project="other")).status_code == 401
    assert (await api.sign_in("demo", project="nowhere")).status_code == 401


async def test_every_wrong_proof_reads_the_same(api: Deployment) -> None:
    wrong: list[dict[str, Any]] = [
        {"name": "demo", "domain": DEFAULT, "password": "wrong"},
        {"name": "nobody", "domain": DEFAULT, "password": "wrong"},
        {"id": "nobody", "password": "wrong"},
        {"name": "demo", "domain": {"id": "elsewhere"}, "password": api.password("demo")},
    ]
    async with api.client() as client:
        answers = [await client.post("/identity/v3/auth/tokens", json=password_body(user)) for user in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"auth": 1}', 400),
        (b'{"auth": {"identity": {"methods": "password"}}}', 400),
        (b'{"auth": {"identity": {"methods": ["magic"], "magic": {}}}}', 401),
        (b"[" * 100_000, 400),
        (b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": 1}}}}}', 400),
    ],
)
async def test_malformed_sign_in_is_4xx_in_the_family_form(api: Deployment, content: bytes, status: int) -> None:
    async with api.client() as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/identity/v3/auth/tokens", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == status


async def test_an_unscoped_token_becomes_a_scoped_one_and_keeps_its_end(api: Deployment) -> None:
    bare = await api.sign_in("demo", scope="unscoped")
    identity = {"methods": ["token"], "token": {"id": bare.headers["x-subject-token"]}}
    scope = {"project": {"name": "demo", "domain": DEFAULT}}
    async with api.client() as client:
        answer = await client.post("/identity/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
    assert answer.status_code == 201, answer.text
    assert answer.json()["token"]["expires_at"] == bare.json()["token"]["expires_at"]
    assert answer.json()["token"]["methods"] == ["password", "token"]


async def test_a_revoked_token_ends_at_once_and_only_it(api: Deployment) -> None:
    first, second = await api.sign_in("demo"), await api.sign_in("demo")
    token = first.headers["x-subject-token"]
    async with api.client(token) as client, api.client(second.headers["x-subject-token"]) as other:
        assert (await client.head("/identity/v3/auth/tokens", headers={"X-Subject-Token": token})).status_code == 200
        gone = await client.delete("/identity/v3/auth/tokens", headers={"X-Subject-Token": token})
        assert gone.status_code == 204
        refused = await client.get("/identity/v3/auth/projects")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == f'Keystone uri="{api.base_url}/identity/v3"'
        assert (await other.get("/identity/v3/auth/projects")).status_code == 200


async def test_a_token_cannot_be_forged_or_changed(api: Deployment) -> None:
    token = (await api.sign_in("demo")).headers["x-subject-token"]
    changed = token[:60] + ("A" if token[60] != "A" else "B") + token[61:]
    for forged in (changed, "x" * 300, "a" * 100_000, "ü"):
        async with api.client() as client:
            headers = httpx.Headers({"X-Auth-Token": forged}, encoding="utf-8")
            try:
                answer = await client.get("/identity/v3/auth/projects", headers=headers)
            except httpx.HTTPError:
                continue  # uvicorn drops a header of this size
            assert answer.status_code in (400, 401, 431), forged[:70]


async def test_what_ends_the_tokens_of_a_user(api: Deployment, admin: httpx.AsyncClient) -> None:
    id_ = await new_user(admin, "ends")
    demo_project = (await admin.get("/identity/v3/projects", params={"name": "demo"})).json()["projects"][0]["id"]
    role = await role_id(admin, "member")
    grant = f"/identity/v3/projects/{demo_project}/users/{id_}/roles/{role}"

    async def token(password: str) -> str:
        body = password_body({"id": id_, "password": password}, scope={"project": {"id": demo_project}})
        async with api.client() as client:
            answer = await client.post("/identity/v3/auth/tokens", json=body)
        return str(answer.headers.get("x-subject-token", answer.status_code))

    async def works(one: str) -> bool:
        async with api.client(one) as client:
            return (await client.get("/identity/v3/auth/catalog")).status_code == 200

    assert await token("secret") == "401"
    assert (await admin.put(grant)).status_code == 204
    assert (await admin.head(grant)).status_code == 204
    held = await token("secret")
    assert await works(held)
    assert (await admin.delete(grant)).status_code == 204
    assert not await works(held)
    assert (await admin.head(grant)).status_code == 404
    await admin.put(grant)
    assert await works(held)
    async with api.client(held) as self_service:
        change = {"user": {"password": "another", "original_password": "secret"}}
        assert (await self_service.post(f"/identity/v3/users/{id_}/password", json=change)).status_code == 204
    assert not await works(held)
    held = await token("another")
    assert await works(held)
    await admin.patch(f"/identity/v3/users/{id_}", json={"user": {"enabled": False}})
    assert not await works(held)
    assert await token("another") == "401"
    await admin.patch(f"/identity/v3/users/{id_}", json={"user": {"enabled": True}})
    held = await token("another")
    assert (await admin.delete(f"/identity/v3/users/{id_}")).status_code == 204
    assert not await works(held)


async def test_members_see_themselves_and_change_nothing(admin: httpx.AsyncClient, demo: httpx.AsyncClient) -> None:
    users = (await demo.get("/identity/v3/users")).json()["users"]
    assert [one["name"] for one in users] == ["demo"]
    assert [one["name"] for one in (await demo.get("/identity/v3/projects")).json()["projects"]] == ["demo"]
    other = (await admin.get("/identity/v3/users", params={"name": "other"})).json()["users"][0]["id"]
    assert (await demo.get(f"/identity/v3/users/{other}")).status_code == 404
    assert (await demo.get(f"/identity/v3/users/{users[0]['id']}")).status_code == 200
    for method, path, body in (
        ("POST", "/users", {"user": {"name": "x"}}),
        ("POST", "/projects", {"project": {"name": "x"}}),
        ("POST", "/roles", {"role": {"name": "x"}}),
        ("PATCH", f"/users/{users[0]['id']}", {"user": {"name": "x"}}),
        ("GET", "/role_assignments", None),
        ("GET", "/services", None),
    ):
        answer = await demo.request(method, f"/identity/v3{path}", json=body)
        assert answer.status_code == 403, (method, path)
        assert answer.json()["error"]["title"] == "Forbidden"


async def test_names_are_unique_even_at_the_same_time(admin: httpx.AsyncClient) -> None:
    body = {"project": {"name": "twins"}}
    answers = await asyncio.gather(*(admin.post("/identity/v3/projects", json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


async def test_lists_are_paged(admin: httpx.AsyncClient) -> None:
    for number in range(5):
        await admin.post("/identity/v3/projects", json={"project": {"name": f"page-{number}"}})
    seen: list[str] = []
    url: str | None = "/identity/v3/projects?limit=2"
    while url:
        answer = (await admin.get(url)).json()
        assert len(answer["projects"]) <= 2
        seen += [one["name"] for one in answer["projects"]]
        url = answer["links"]["next"]
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen)
    assert {f"page-{number}" for number in range(5)} <= set(seen)
    assert (await admin.get("/identity/v3/projects?marker=nothing")).status_code == 400


async def test_application_credentials(api: Deployment, demo: httpx.AsyncClient) -> None:
    me = (await demo.get("/identity/v3/users")).json()["users"][0]["id"]
    base = f"/identity/v3/users/{me}/application_credentials"
    made = await demo.post(base, json={"application_credential": {"name": "ci", "roles": [{"name": "reader"}]}})
    assert made.status_code == 201, made.text
    credential = made.json()["application_credential"]
    assert "secret" not in (await demo.get(f"{base}/{credential['id']}")).json()["application_credential"]
    identity = {
        "methods": ["application_credential"],
        "application_credential": {"id": credential["id"], "secret": credential["secret"]},
    }
    async with api.client() as client:
        answer = await client.post("/identity/v3/auth/tokens", json={"auth": {"identity": identity}})
        assert answer.status_code == 201, answer.text
        assert [one["name"] for one in answer.json()["token"]["roles"]] == ["reader"]
        identity["application_credential"] = {"id": credential["id"], "secret": "wrong"}
        wrong = await client.post("/identity/v3/auth/tokens", json={"auth": {"identity": identity}})
        assert wrong.status_code == 401
    async with api.client(answer.headers["x-subject-token"]) as restricted:
        again = await restricted.post(base, json={"application_credential": {"name": "more"}})
        assert again.status_code == 403
        assert (await restricted.get("/identity/v3/auth/catalog")).status_code == 200
        assert (await demo.delete(f"{base}/{credential['id']}")).status_code == 204
        assert (await restricted.get("/identity/v3/auth/catalog")).status_code == 401
    too_much = {"application_credential": {"name": "root", "roles": [{"name": "admin"}]}}
    assert (await demo.post(base, json=too_much)).status_code == 400


async def test_secrets_are_hashed_and_files_are_private(api: Deployment) -> None:
    user = await api.services.read.resource_by_name("user", "demo")
    assert isinstance(user, User)
    assert user.password_hash.startswith("scrypt$")
    for name in ("passwords.json", "clouds.yaml", "keys/tokens"):
        assert stat.S_IMODE((api.data / name).stat().st_mode) == 0o600, name


async def test_version_documents_answer_without_a_token_with_the_callers_host(api: Deployment) -> None:
    async with api.client() as client:
        for path, status in (
            ("/identity", 300),
            ("/identity/v3", 200),
            ("/identity/v3/", 200),
            ("/image", 300),
            ("/network", 200),
            ("/network/", 200),
            ("/volume/", 300),
            ("/volume/v3/", 200),
            ("/placement", 200),
            ("/compute/", 200),
            ("/compute/v2.1/", 200),
        ):
            answer = await client.get(path, headers={"Host": "cloud.example:1234"})
            assert answer.status_code == status, path
            assert "http://cloud.example:1234/" in answer.text, path
            assert answer.headers["x-openstack-request-id"].startswith("req-"), path


async def test_an_unknown_path_and_method_are_refused_in_the_family_form(demo: httpx.AsyncClient) -> None:
    for family, key in (
        ("/identity/v3/nothing", "error"),
        ("/network/v2.0/nothing", "NeutronError"),
        ("/volume/v3/nothing", "itemNotFound"),
        ("/compute/v2.1/nothing", "message"),  # as Nova answers for what no route of it is
        ("/placement/nothing", "errors"),
        ("/v1/nothing", "hint"),
    ):
        answer = await demo.get(family)
        assert answer.status_code == 404, family
        assert key in answer.json(), family
    assert (await demo.delete("/identity/v3/auth/catalog")).status_code == 405


async def test_placement_names_the_microversion_that_it_used(api: Deployment, admin: httpx.AsyncClient) -> None:
    at = CommandContext(SERVICE, "req-1")
    room = {"vcpus": 4, "memory_mb": 4096, "disk_gb": 10, "up": True}
    host = await api.services.commands.create("host", {"name": "host-1", "number": 1, **room}, at)
    wanted = {"VCPU": 1}
    shapes = {
        "1.0": [{"resource_provider": {"uuid": host.id}, "resources": wanted}],
        "1.30": {host.id: {"resources": wanted}},
        "1.39": {host.id: {"resources": wanted}},
    }
    for asked, used in ((None, "1.0"), ("placement 1.30", "1.30"), ("volume 3.1, placement latest", "1.39")):
        headers = {} if asked is None else {"OpenStack-API-Version": asked}
        for path in ("resource_providers", f"resource_providers/{host.id}/usages", "traits", "resource_classes"):
            answer = await admin.get(f"/placement/{path}", headers=headers)
            assert answer.headers["openstack-api-version"] == f"placement {used}", path
            assert answer.headers["vary"] == "OpenStack-API-Version"
        found = await admin.get("/placement/allocation_candidates?resources=VCPU:1", headers=headers)
        assert [one["allocations"] for one in found.json()["allocation_requests"]] == [shapes[used]]
        assert ["mappings" in one for one in found.json()["allocation_requests"]] == [used == "1.39"]
    for asked in ("placement 1.40", "placement 2.0", "placement 1"):
        refused = await admin.get("/placement/traits", headers={"OpenStack-API-Version": asked})
        assert (refused.status_code, refused.headers.get("vary")) == (406, "OpenStack-API-Version")
        assert "openstack-api-version" not in refused.headers  # none was used
    older = {"OpenStack-API-Version": "placement 1.30"}
    async with api.signed_in("demo") as demo:
        for refused, status in (
            (await admin.get("/placement/traits/NOPE", headers=older), 404),
            (await demo.get("/placement/resource_providers", headers=older), 403),
        ):
            assert (refused.status_code, refused.headers["vary"]) == (status, "OpenStack-API-Version")
            assert refused.headers["openstack-api-version"] == "placement 1.30"
