"""Everything around servers: flavors, keys, quotas, hosts, services, aggregates, groups, usage, events from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.conformance.deployment import HOSTS, Deployment, running
from tests.system import ADMIN, context

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running(tmp_path_factory.mktemp("compute")) as opened:
        yield opened


async def send(
    deployment: Deployment, actor: str, method: str, path: str, body: Any = None, *, version: str = "2.96"
) -> httpx.Response:
    headers = {"OpenStack-API-Version": f"compute {version}"}
    return await deployment.clients[actor].request(method, f"/compute/v2.1{path}", json=body, headers=headers)


async def ok(deployment: Deployment, actor: str, method: str, path: str, body: Any = None, **more: Any) -> Any:
    answer = await send(deployment, actor, method, path, body, **more)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def message(answer: httpx.Response) -> str:
    inner: dict[str, Any] = next(iter(answer.json().values()))
    return str(inner["message"])


async def test_flavors_are_made_described_and_kept_from_others(deployment: Deployment) -> None:
    wanted = {"name": "own", "id": "own", "ram": 64, "vcpus": 1, "disk": 0, "os-flavor-access:is_public": False}
    made = (await ok(deployment, "admin", "POST", "/flavors", {"flavor": wanted}))["flavor"]
    assert made["id"] == "own"
    assert (await send(deployment, "admin", "POST", "/flavors", {"flavor": wanted})).status_code == 409
    assert (await send(deployment, "demo", "GET", "/flavors/own")).status_code == 404
    demo = deployment.ids["project demo"]
    grant = {"addTenantAccess": {"tenant": demo}}
    await ok(deployment, "admin", "POST", "/flavors/own/action", grant)
    assert (await send(deployment, "admin", "POST", "/flavors/own/action", grant)).status_code == 409
    assert (await ok(deployment, "demo", "GET", "/flavors/own"))["flavor"]["ram"] == 64
    specs = {"extra_specs": {"hw:cpu_policy": "shared"}}
    await ok(deployment, "admin", "POST", "/flavors/own/os-extra_specs", specs)
    assert (await ok(deployment, "demo", "GET", "/flavors/own/os-extra_specs"))["extra_specs"] == specs["extra_specs"]
    described = {"flavor": {"description": "ours"}}
    assert (await ok(deployment, "admin", "PUT", "/flavors/own", described))["flavor"]["description"] == "ours"
    assert (await send(deployment, "demo", "DELETE", "/flavors/own")).status_code == 403
    assert (await send(deployment, "admin", "DELETE", "/flavors/own")).status_code == 202


async def test_flavor_lists_page_and_filter(deployment: Deployment) -> None:
    page = await ok(deployment, "demo", "GET", "/flavors?limit=2&sort_key=name")
    following = page["flavors_links"][0]["href"].partition("/compute/v2.1")[2]
    rest = await ok(deployment, "demo", "GET", following)
    names = [one["name"] for one in page["flavors"] + rest["flavors"]]
    assert names == sorted(names)
    assert {"huge", "m1.small", "m1.tiny"} <= set(names)
    big = await ok(deployment, "demo", "GET", "/flavors?minRam=2048")
    assert {one["name"] for one in big["flavors"]} == {"huge", "m1.small"}
    assert (await send(deployment, "demo", "GET", "/flavors?marker=nope")).status_code == 400


async def test_key_pairs_are_made_until_2_91_and_belong_to_their_user(deployment: Deployment) -> None:
    body = {"keypair": {"name": "made"}}
    made = await send(deployment, "demo", "POST", "/os-keypairs", body, version="2.1")
    assert made.status_code == 200
    assert "PRIVATE KEY" in made.json()["keypair"]["private_key"]
    assert (await send(deployment, "demo", "POST", "/os-keypairs", body, version="2.91")).status_code == 409
    assert (await send(deployment, "demo", "POST", "/os-keypairs", body)).status_code == 400
    assert (await send(deployment, "manager", "GET", "/os-keypairs/made")).status_code == 404
    user = deployment.ids["user demo"]
    theirs = await ok(deployment, "admin", "GET", f"/os-keypairs?user_id={user}")
    assert [one["keypair"]["name"] for one in theirs["keypairs"]] == ["made"]
    assert (await send(deployment, "other", "GET", f"/os-keypairs?user_id={user}")).status_code == 403
    bad = {"keypair": {"name": "bad", "type": "ssh", "public_key": "ssh-rsa nonsense"}}
    assert message(await send(deployment, "demo", "POST", "/os-keypairs", bad)).startswith("Keypair data is invalid")
    assert (await send(deployment, "demo", "DELETE", "/os-keypairs/made")).status_code == 204
    assert (await send(deployment, "demo", "DELETE", "/os-keypairs/made")).status_code == 404


async def test_quotas_bound_what_a_project_creates(deployment: Deployment) -> None:
    project = deployment.ids["project other"]
    path = f"/os-quota-sets/{project}"
    await ok(deployment, "admin", "PUT", path, {"quota_set": {"cores": 1}})
    assert (await ok(deployment, "other", "GET", path))["quota_set"]["cores"] == 1
    wanted = {"name": "q", "flavorRef": "1", "imageRef": deployment.ids["image"], "networks": "none", "min_count": 2}
    answer = await send(deployment, "other", "POST", "/servers", {"server": wanted})
    assert answer.status_code == 403
    assert message(answer).startswith("Quota exceeded for cores: Requested 2, but already used 0 of 1 cores. ")
    wanted = wanted | {"min_count": 1, "max_count": 3}
    await ok(deployment, "other", "POST", "/servers", {"server": wanted})
    detail = (await ok(deployment, "other", "GET", f"{path}/detail"))["quota_set"]
    assert detail["cores"] == {"limit": 1, "in_use": 1, "reserved": 0}
    assert (await send(deployment, "admin", "PUT", path, {"quota_set": {"cores": 0}})).status_code == 400
    await ok(deployment, "admin", "PUT", path, {"quota_set": {"cores": 0, "force": True}})
    assert (await send(deployment, "admin", "DELETE", path)).status_code == 202
    assert (await ok(deployment, "other", "GET", path))["quota_set"]["cores"] == -1
    assert (await send(deployment, "demo", "GET", path)).status_code == 403


async def test_a_resize_fits_into_the_quota_or_is_refused(deployment: Deployment) -> None:
    path = f"/os-quota-sets/{deployment.ids['project other']}"
    wanted = {"name": "r", "flavorRef": "1", "imageRef": deployment.ids["image"], "networks": "none"}
    server_id = (await ok(deployment, "other", "POST", "/servers", {"server": wanted}))["server"]["id"]
    async with asyncio.timeout(60):
        while (await ok(deployment, "other", "GET", f"/servers/{server_id}"))["server"]["status"] != "ACTIVE":
            await asyncio.sleep(0.02)
    used = (await ok(deployment, "other", "GET", f"{path}/detail"))["quota_set"]["ram"]["in_use"]
    resize = {"resize": {"flavorRef": "2"}}
    await ok(deployment, "admin", "PUT", path, {"quota_set": {"ram": used + 1535}})
    answer = await send(deployment, "other", "POST", f"/servers/{server_id}/action", resize)
    assert answer.status_code == 403
    said = f"Quota exceeded for ram: Requested 1536, but already used {used} of {used + 1535} ram. "
    assert message(answer).startswith(said)
    await ok(deployment, "admin", "PUT", path, {"quota_set": {"ram": used + 1536}})
    answer = await send(deployment, "other", "POST", f"/servers/{server_id}/action", resize)
    assert answer.status_code == 202, answer.text
    assert (await send(deployment, "admin", "DELETE", path)).status_code == 202


async def test_the_default_class_holds_for_all_projects(deployment: Deployment) -> None:
    path = "/os-quota-class-sets/default"
    try:
        await ok(deployment, "admin", "PUT", path, {"quota_class_set": {"key_pairs": 7}})
        await ok(deployment, "admin", "PUT", path, {"quota_class_set": {"instances": 50}})
        shown = (await ok(deployment, "admin", "GET", path))["quota_class_set"]
        assert (shown["key_pairs"], shown["instances"]) == (7, 50)
        limits = (await ok(deployment, "demo", "GET", "/limits"))["limits"]["absolute"]
        assert limits["maxTotalKeypairs"] == 7
    finally:
        await ok(deployment, "admin", "PUT", path, {"quota_class_set": {"key_pairs": 100, "instances": -1}})


async def test_services_are_disabled_and_declared_dead(deployment: Deployment) -> None:
    services = (await ok(deployment, "admin", "GET", "/os-services"))["services"]
    assert [one["host"] for one in services] == list(HOSTS)
    path = f"/os-services/{services[0]['id']}"
    changed = {"status": "disabled", "disabled_reason": "work"}
    assert (await ok(deployment, "admin", "PUT", path, changed))["service"]["disabled_reason"] == "work"
    assert (await ok(deployment, "admin", "PUT", path, {"forced_down": True}))["service"]["state"] == "down"
    hypervisors = (await ok(deployment, "admin", "GET", "/os-hypervisors/detail"))["hypervisors"]
    assert (hypervisors[0]["state"], hypervisors[0]["status"]) == ("down", "disabled")
    await ok(deployment, "admin", "PUT", path, {"status": "enabled", "forced_down": False})
    by_name = {"host": HOSTS[0], "binary": "nova-compute", "disabled_reason": "old"}
    old = await ok(deployment, "admin", "PUT", "/os-services/disable-log-reason", by_name, version="2.1")
    assert old["service"]["status"] == "disabled"
    enable = {"host": HOSTS[0], "binary": "nova-compute"}
    await ok(deployment, "admin", "PUT", "/os-services/enable", enable, version="2.1")
    assert (await send(deployment, "admin", "PUT", path, {})).status_code == 400


async def test_services_show_their_last_heartbeat(deployment: Deployment) -> None:
    async def shown() -> list[str]:
        services = (await ok(deployment, "admin", "GET", "/os-services"))["services"]
        zones = (await ok(deployment, "admin", "GET", "/os-availability-zone/detail"))["availabilityZoneInfo"]
        hosts = {name: one["nova-compute"] for zone in zones for name, one in zone["hosts"].items()}
        return [one["updated_at"] for one in services] + [hosts[name]["updated_at"] for name in sorted(hosts)]

    before = await shown()
    async with asyncio.timeout(60):
        while not all(now > then for now, then in zip(await shown(), before, strict=True)):
            await asyncio.sleep(0.1)


async def test_hypervisors_by_id_and_with_their_servers(deployment: Deployment) -> None:
    first = (await ok(deployment, "admin", "GET", "/os-hypervisors?limit=1"))["hypervisors"][0]
    shown = await ok(deployment, "admin", "GET", f"/os-hypervisors/{first['id']}?with_servers=true")
    assert all(one["name"].startswith("instance-") for one in shown["hypervisor"]["servers"])
    old = await ok(deployment, "admin", "GET", "/os-hypervisors/1", version="2.1")
    assert isinstance(old["hypervisor"]["cpu_info"], str)
    assert (await send(deployment, "admin", "GET", "/os-hypervisors/nope")).status_code == 404
    found = await ok(deployment, "admin", "GET", "/os-hypervisors?hypervisor_hostname_pattern=host2")
    assert [one["hypervisor_hostname"] for one in found["hypervisors"]] == ["host2"]
    statistics = await ok(deployment, "admin", "GET", "/os-hypervisors/statistics", version="2.87")
    assert statistics["hypervisor_statistics"]["count"] == len(HOSTS)
    hosts = await ok(deployment, "admin", "GET", "/os-hosts/host1", version="2.42")
    assert [one["resource"]["project"] for one in hosts["host"]][:2] == ["(total)", "(used_now)"]


async def test_an_aggregate_with_a_zone_moves_its_hosts(deployment: Deployment) -> None:
    wanted = {"aggregate": {"name": "racks", "availability_zone": "az1"}}
    number = (await ok(deployment, "admin", "POST", "/os-aggregates", wanted))["aggregate"]["id"]
    assert (await send(deployment, "admin", "POST", "/os-aggregates", wanted)).status_code == 409
    path = f"/os-aggregates/{number}"
    add = {"add_host": {"host": "host3"}}
    await ok(deployment, "admin", "POST", f"{path}/action", add)
    assert (await send(deployment, "admin", "POST", f"{path}/action", add)).status_code == 409
    zones = (await ok(deployment, "demo", "GET", "/os-availability-zone"))["availabilityZoneInfo"]
    assert {one["zoneName"] for one in zones} == {"az1", "nova"}
    wanted_server = {"name": "z", "flavorRef": "1", "imageRef": deployment.ids["image"], "networks": "none"}
    made = await ok(deployment, "demo", "POST", "/servers", {"server": wanted_server | {"availability_zone": "az1"}})
    await settle(deployment, made["server"]["id"])
    shown = (await ok(deployment, "admin", "GET", f"/servers/{made['server']['id']}"))["server"]
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["OS-EXT-AZ:availability_zone"]) == ("host3", "az1")
    remove = {"remove_host": {"host": "host3"}}
    assert (await send(deployment, "admin", "POST", f"{path}/action", remove)).status_code == 409
    await ok(deployment, "demo", "DELETE", f"/servers/{made['server']['id']}")
    await settle(deployment, made["server"]["id"])
    metadata = {"set_metadata": {"metadata": {"a": "b"}}}
    assert (await ok(deployment, "admin", "POST", f"{path}/action", metadata))["aggregate"]["metadata"] == {
        "a": "b",
        "availability_zone": "az1",
    }
    assert (await send(deployment, "admin", "DELETE", path)).status_code == 400
    await ok(deployment, "admin", "POST", f"{path}/action", remove)
    assert (await send(deployment, "admin", "DELETE", path)).status_code == 200
    assert (await send(deployment, "demo", "GET", "/os-aggregates")).status_code == 403


async def settle(deployment: Deployment, server_id: str) -> None:
    async with asyncio.timeout(60):
        while True:
            server = await deployment.system.read.server(server_id)
            if server is not None and server.operation is None:
                return
            await asyncio.sleep(0.02)


async def test_usage_counts_servers_that_ran_and_pages(deployment: Deployment) -> None:
    project = deployment.ids["project demo"]
    wanted = {"name": "u", "flavorRef": "1", "imageRef": deployment.ids["image"], "networks": "none"}
    made = await ok(deployment, "demo", "POST", "/servers", {"server": wanted})
    await settle(deployment, made["server"]["id"])
    usage = (await ok(deployment, "demo", "GET", f"/os-simple-tenant-usage/{project}"))["tenant_usage"]
    assert made["server"]["id"] in {one["instance_id"] for one in usage["server_usages"]}
    paged = await ok(deployment, "admin", "GET", "/os-simple-tenant-usage?limit=1&detailed=1")
    assert paged["tenant_usages_links"][0]["rel"] == "next"
    assert (await send(deployment, "demo", "GET", "/os-simple-tenant-usage")).status_code == 403
    bad = await send(deployment, "admin", "GET", "/os-simple-tenant-usage?start=2030-01-01T00:00:00&end=2020-01-01")
    assert bad.status_code == 400


async def test_moves_show_what_became_of_them(deployment: Deployment) -> None:
    wanted = {"name": "mover", "flavorRef": "1", "imageRef": deployment.ids["image"], "networks": "none"}
    server_id = (await ok(deployment, "demo", "POST", "/servers", {"server": wanted}))["server"]["id"]
    await settle(deployment, server_id)
    for body in ({"resize": {"flavorRef": "2"}}, {"revertResize": None}, {"resize": {"flavorRef": "2"}}):
        await ok(deployment, "demo", "POST", f"/servers/{server_id}/action", body)
        await settle(deployment, server_id)
    moves = (await ok(deployment, "admin", "GET", f"/os-migrations?instance_uuid={server_id}"))["migrations"]
    assert [(one["migration_type"], one["status"]) for one in moves] == [("resize", "finished"), ("resize", "reverted")]
    page = await ok(deployment, "admin", "GET", f"/os-migrations?instance_uuid={server_id}&limit=1")
    assert len(page["migrations_links"]) == 1
    assert (await ok(deployment, "admin", "GET", f"/servers/{server_id}/migrations"))["migrations"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"migrate": None},
        {"migrate": {"host": "{elsewhere}"}},
        {"os-migrateLive": {"host": None, "block_migration": "auto"}},
    ],
)
async def test_moves_to_another_host_are_refused_after_the_machine(deployment: Deployment, body: Any) -> None:
    wanted = {"name": "stays", "flavorRef": "1", "imageRef": deployment.ids["image"], "networks": "none"}
    server_id = (await ok(deployment, "demo", "POST", "/servers", {"server": wanted}))["server"]["id"]
    await settle(deployment, server_id)
    at = (await ok(deployment, "admin", "GET", f"/servers/{server_id}"))["server"]["OS-EXT-SRV-ATTR:host"]
    elsewhere = next(host for host in HOSTS if host != at)
    asked = json.loads(json.dumps(body).replace("{elsewhere}", elsewhere))
    refused = await send(deployment, "admin", "POST", f"/servers/{server_id}/action", asked)
    assert refused.status_code == 501
    assert "not carried out" in message(refused)
    assert "create a new server" in message(refused)
    shown = (await ok(deployment, "admin", "GET", f"/servers/{server_id}"))["server"]
    assert (shown["status"], shown["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", at)
    await ok(deployment, "demo", "POST", f"/servers/{server_id}/action", {"suspend": None})
    await settle(deployment, server_id)
    illegal = await send(deployment, "admin", "POST", f"/servers/{server_id}/action", asked)
    assert illegal.status_code == 409
    assert "while it is in vm_state suspended" in message(illegal)


async def test_events_from_outside_are_answered_one_by_one(deployment: Deployment) -> None:
    wanted = {"name": "told", "flavorRef": "1", "imageRef": deployment.ids["image"], "networks": "none"}
    server_id = (await ok(deployment, "demo", "POST", "/servers", {"server": wanted}))["server"]["id"]
    await settle(deployment, server_id)
    missing = "00000000-0000-0000-0000-00000000dead"
    events = [
        {"name": "power-update", "server_uuid": server_id, "tag": "POWER_OFF"},
        {"name": "network-changed", "server_uuid": missing},
        {"name": "volume-extended", "server_uuid": server_id},
        {"name": "power-update", "server_uuid": server_id, "tag": "SIDEWAYS"},
        {"name": "volume-extended", "server_uuid": server_id, "tag": missing},
    ]
    answer = await send(deployment, "admin", "POST", "/os-server-external-events", {"events": events})
    assert answer.status_code == 207
    shown = [(one["code"], one["status"]) for one in answer.json()["events"]]
    assert shown == [(200, "completed"), (404, "failed"), (400, "failed"), (400, "failed"), (200, "completed")]
    await settle(deployment, server_id)
    assert (await ok(deployment, "demo", "GET", f"/servers/{server_id}"))["server"]["status"] == "SHUTOFF"
    assert (await send(deployment, "demo", "POST", "/os-server-external-events", {"events": events})).status_code == 403


async def test_server_groups_by_version_and_project(deployment: Deployment) -> None:
    body = {"server_group": {"name": "old", "policies": ["affinity"]}}
    made = (await ok(deployment, "demo", "POST", "/os-server-groups", body, version="2.1"))["server_group"]
    assert made["policies"] == ["affinity"]
    new = (await ok(deployment, "demo", "GET", f"/os-server-groups/{made['id']}"))["server_group"]
    assert (new["policy"], new["rules"]) == ("affinity", {})
    assert (await send(deployment, "other", "GET", f"/os-server-groups/{made['id']}")).status_code == 404
    rules = {"name": "r", "policy": "affinity", "rules": {"max_server_per_host": 2}}
    refused = await send(deployment, "demo", "POST", "/os-server-groups", {"server_group": rules})
    assert message(refused) == "Only anti-affinity policy supports rules."
    listed = await ok(deployment, "admin", "GET", "/os-server-groups?all_projects=true")
    assert made["id"] in {one["id"] for one in listed["server_groups"]}
    assert (await send(deployment, "demo", "DELETE", f"/os-server-groups/{made['id']}")).status_code == 204


async def test_extensions_are_those_that_are_served(deployment: Deployment) -> None:
    shown = (await ok(deployment, "demo", "GET", "/extensions"))["extensions"]
    assert "os-keypairs" in {one["alias"] for one in shown}
    assert (await send(deployment, "demo", "GET", "/extensions/os-cells")).status_code == 404


async def test_images_are_shown_in_novas_old_form_until_the_image_api_took_over(deployment: Deployment) -> None:
    commands, server_id = deployment.system.commands, "5a0c2d7e-8f0e-4b52-9a58-222222222222"
    mine = {"name": "mine", "project_id": deployment.ids["project demo"], "visibility": "private", "status": "saving"}
    more = {"min_disk": 2, "min_ram": 64, "properties": {"instance_uuid": server_id, "image_type": "snapshot"}}
    image = await commands.create("image", mine | more, context(ADMIN))
    await commands.create("image", {"name": "hidden", "visibility": "public", "os_hidden": True}, context(ADMIN))

    async def get(path: str, actor: str = "demo", version: str = "2.35") -> Any:
        answer = await send(deployment, actor, "GET", path, version=version)
        return answer.json() if answer.status_code == 200 else answer.status_code

    shown = (await get(f"/images/{image.id}"))["image"]
    root = f"{deployment.base_url}/compute"
    links = {one["rel"]: one["href"] for one in shown["links"]}
    assert links == {
        "self": f"{root}/v2.1/images/{image.id}",
        "bookmark": f"{root}/images/{image.id}",
        "alternate": f"{deployment.base_url}/image/v2/images/{image.id}",
    }
    assert {key: shown[key] for key in ("id", "name", "status", "progress", "minDisk", "minRam")} == {
        "id": image.id,
        "name": "mine",
        "status": "SAVING",
        "progress": 50,
        "minDisk": 2,
        "minRam": 64,
    }
    assert (shown["metadata"], shown["OS-EXT-IMG-SIZE:size"]) == (more["properties"], None)
    assert (shown["server"]["id"], len(shown["created"]), shown["updated"][-1]) == (server_id, 20, "Z")
    assert set(shown) == {
        *("id", "name", "links", "minRam", "minDisk", "metadata", "created", "updated", "status", "progress"),
        *("OS-EXT-IMG-SIZE:size", "server"),
    }
    listed = (await get("/images"))["images"]
    assert {one["name"] for one in listed} == {"image", "image2", "mine"}
    assert {frozenset(one) for one in listed} == {frozenset({"id", "name", "links"})}
    assert {one["status"] for one in (await get("/images/detail"))["images"]} == {"ACTIVE", "SAVING"}
    assert [one["name"] for one in (await get("/images/detail?server=" + server_id))["images"]] == ["mine"]
    assert [one["name"] for one in (await get("/images?status=SAVING&property-image_type=snapshot"))["images"]] == [
        "mine"
    ]
    first = await get("/images?limit=2")
    (following,) = first["images_links"]
    second = await get(following["href"].removeprefix(f"{root}/v2.1"))
    assert sorted(one["name"] for one in first["images"] + second["images"]) == ["image", "image2", "mine"]
    assert await get(f"/images/{image.id}/metadata", version="2.38") == {"metadata": more["properties"]}
    assert await get(f"/images/{image.id}/metadata/image_type") == {"meta": {"image_type": "snapshot"}}
    for path in (f"/images/{image.id}", f"/images/{image.id}/metadata"):
        assert await get(path, "other") == 404
    assert await get(f"/images/{image.id}/metadata/none") == 404
    assert await get("/images?marker=nobody") == 400
    for path in ("/images", "/images/detail", f"/images/{image.id}"):
        assert await get(path, version="2.36") == 404
    assert await get(f"/images/{image.id}/metadata", version="2.39") == 404
    answer = await send(deployment, "demo", "DELETE", f"/images/{image.id}", version="2.35")
    assert answer.status_code == 501
