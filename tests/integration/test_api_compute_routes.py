"""Routes of Nova's that no resource of chronova's is behind, or that are another's under a second name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests.conformance.deployment import HOSTS, Deployment, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running(tmp_path_factory.mktemp("routes")) as opened:
        yield opened


async def send(
    deployment: Deployment, actor: str, method: str, path: str, body: Any = None, **headers: str
) -> httpx.Response:
    return await deployment.clients[actor].request(method, f"/compute/v2.1{path}", json=body, headers=headers)


async def test_a_version_by_its_id(deployment: Deployment) -> None:
    shown = await send(deployment, "demo", "GET", "/versions/v2.1")
    assert (shown.status_code, shown.json()) == (200, (await deployment.clients["demo"].get("/compute/v2.1")).json())
    assert (await send(deployment, "demo", "GET", "/versions/v2.0")).status_code == 404


async def test_an_unknown_resource_is_404_whatever_follows_it(deployment: Deployment) -> None:
    for path in ("/os-unheard-of", "/os-unheard-of/x", "/os-unheard-of/x/y"):
        answer = await send(deployment, "demo", "GET", path)
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found"), path


async def test_servers_by_the_name_of_boots_from_volumes(deployment: Deployment) -> None:
    name = f"old-{uuid4()}"
    body = {"server": {"name": name, "flavorRef": "1", "imageRef": deployment.ids["image"]}}
    key = {"Idempotency-Key": name}
    made = [await send(deployment, "demo", "POST", "/os-volumes_boot", body, **key) for _ in range(2)]
    assert [one.status_code for one in made] == [202, 202]
    (id_,) = {one.json()["server"]["id"] for one in made}
    for path in ("", "/detail"):
        listed = (await send(deployment, "demo", "GET", f"/os-volumes_boot{path}?name={name}")).json()["servers"]
        assert [one["id"] for one in listed] == [id_]
    by_both = [(await send(deployment, "demo", "GET", f"/{one}/{id_}")) for one in ("servers", "os-volumes_boot")]
    assert [one.json()["server"]["name"] for one in by_both] == [name, name]
    renamed = {"server": {"name": "new-name"}}
    assert (await send(deployment, "demo", "PUT", f"/os-volumes_boot/{id_}", renamed)).status_code == 200
    assert (await send(deployment, "demo", "POST", f"/os-volumes_boot/{id_}/action", {"lock": None})).status_code == 202
    assert (await send(deployment, "admin", "DELETE", f"/os-volumes_boot/{id_}")).status_code == 204


async def test_no_host_audits_usage(deployment: Deployment) -> None:
    path = "/os-instance_usage_audit_log"
    names = sorted(HOSTS)
    latest = (await send(deployment, "admin", "GET", path)).json()["instance_usage_audit_logs"]
    assert (sorted(latest["hosts_not_run"]), latest["log"]) == (names, {})
    assert latest["overall_status"] == f"0 of {len(names)} hosts done. 0 errors."
    for time in ("2026-03-05 10:00:00", "2026-03-05 10:00:00.5"):
        earlier = (await send(deployment, "admin", "GET", f"{path}/{time}")).json()["instance_usage_audit_log"]
        assert earlier.keys() == latest.keys()
        assert (earlier["period_beginning"], earlier["period_ending"]) == ("2026-02-01 00:00:00", "2026-03-01 00:00:00")
    for time in ("yesterday", "0001-01-02 00:00:00"):
        refused = await send(deployment, "admin", "GET", f"{path}/{time}")
        assert refused.status_code == 400
        assert f"Invalid timestamp for date {time}" in refused.text
    assert (await send(deployment, "demo", "GET", path)).status_code == 403


async def test_hosts_take_no_snapshots_for_others(deployment: Deployment) -> None:
    path = "/os-assisted-volume-snapshots"
    for method, place, body in (("POST", path, {"snapshot": {}}), ("DELETE", f"{path}/x?delete_info={{}}", None)):
        assert (await send(deployment, "demo", method, place, body)).status_code == 403
        refused = await send(deployment, "admin", method, place, body)
        assert (refused.status_code, "/volume/v3/snapshots" in refused.text) == (501, True)
