"""Block storage v3 on a running API, with real qemu-img: volumes, copies, snapshots, and work that was cut off."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api.volume import work
from api.volume.work import Work
from commands import disks
from commands.context import SERVICE, CommandContext
from domain.errors import Unavailable
from domain.resources import Volume
from tests.deployment import Deployment, running_api

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        shutil.which("qemu-img") is None, reason="volumes are copied by qemu-img, which is not installed"
    ),
]
V3 = "/volume/v3"
VARY = "OpenStack-API-Version"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running_api(tmp_path_factory.mktemp("volume")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("demo") as client:
        yield client


async def reached(client: httpx.AsyncClient, path: str, status: str) -> dict[str, Any]:
    """The volume, snapshot or image at `path`, once it has the status."""
    async with asyncio.timeout(60):
        while True:
            body = (await client.get(path)).json()
            found: dict[str, Any] = body if "images" in path else next(iter(body.values()))
            if found["status"] == status:
                return found
            await asyncio.sleep(0.02)


async def gone(client: httpx.AsyncClient, path: str) -> None:
    async with asyncio.timeout(60):
        while (await client.get(path)).status_code != 404:
            await asyncio.sleep(0.02)


async def volume(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(f"{V3}/volumes", json={"volume": fields})
    assert answer.status_code == 202, answer.text
    assert answer.json()["volume"]["status"] == "creating"
    return await reached(client, f"{V3}/volumes/{answer.json()['volume']['id']}", "available")


async def act(client: httpx.AsyncClient, volume_id: str, verb: str, **arguments: Any) -> httpx.Response:
    return await client.post(f"{V3}/volumes/{volume_id}/action", json={verb: arguments})


def info(path: Path) -> dict[str, Any]:
    told = subprocess.run(["qemu-img", "info", "--output=json", str(path)], check=True, capture_output=True, timeout=60)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


async def test_a_volume_is_made_extended_and_deleted(api: Deployment, demo: httpx.AsyncClient) -> None:
    one = await volume(demo, size=1, name="data", metadata={"a": "b"})
    path = api.services.settings.volumes_dir / one["id"]
    told = await asyncio.to_thread(info, path)
    assert (told["format"], told["virtual-size"]) == ("qcow2", 1 << 30)
    assert (one["bootable"], one["attachments"], one["metadata"]) == ("false", [], {"a": "b"})
    assert (await act(demo, one["id"], "os-extend", new_size=1)).status_code == 400
    assert (await act(demo, one["id"], "os-extend", new_size=3)).status_code == 202
    assert (await reached(demo, f"{V3}/volumes/{one['id']}", "available"))["size"] == 3
    assert (await asyncio.to_thread(info, path))["virtual-size"] == 3 << 30
    assert (await demo.delete(f"{V3}/volumes/{one['id']}")).status_code == 202
    await gone(demo, f"{V3}/volumes/{one['id']}")
    assert not path.exists()


async def test_from_image_to_volume_to_image(api: Deployment, demo: httpx.AsyncClient, tmp_path: Path) -> None:
    source = tmp_path / "source.qcow2"
    await asyncio.to_thread(
        subprocess.run, ["qemu-img", "create", "-q", "-f", "qcow2", str(source), "30M"], check=True, timeout=60
    )
    fields = {"name": "i", "disk_format": "qcow2", "container_format": "bare", "os_distro": "debian"}
    image_id = (await demo.post("/image/v2/images", json=fields)).json()["id"]
    early = await demo.post(f"{V3}/volumes", json={"volume": {"size": 1, "imageRef": image_id}})
    assert early.status_code == 400
    data = await asyncio.to_thread(source.read_bytes)
    octets = {"content-type": "application/octet-stream"}
    await demo.put(f"/image/v2/images/{image_id}/file", content=data, headers=octets)
    one = await volume(demo, size=2, imageRef=image_id)
    assert one["bootable"] == "true"
    assert one["volume_image_metadata"]["os_distro"] == "debian"
    assert (await asyncio.to_thread(info, api.services.settings.volumes_dir / one["id"]))["virtual-size"] == 2 << 30
    answer = await act(demo, one["id"], "os-volume_upload_image", image_name="back", container_format="bare")
    assert answer.status_code == 202, answer.text
    made = answer.json()["os-volume_upload_image"]["image_id"]
    image = await reached(demo, f"/image/v2/images/{made}", "active")
    assert image["virtual_size"] == 2 << 30
    assert image["size"] == len((await demo.get(f"/image/v2/images/{made}/file")).content)
    await reached(demo, f"{V3}/volumes/{one['id']}", "available")


async def test_snapshots(api: Deployment, demo: httpx.AsyncClient) -> None:
    one = await volume(demo, size=1)
    answer = await demo.post(f"{V3}/snapshots", json={"snapshot": {"volume_id": one["id"], "name": "s"}})
    assert answer.status_code == 202, answer.text
    snapshot = await reached(demo, f"{V3}/snapshots/{answer.json()['snapshot']['id']}", "available")
    refused = await demo.delete(f"{V3}/volumes/{one['id']}")
    assert refused.status_code == 400
    assert "snapshots" in refused.text
    copy = await volume(demo, snapshot_id=snapshot["id"])
    assert copy["size"] == 1
    too_small = await demo.post(f"{V3}/volumes", json={"volume": {"snapshot_id": snapshot["id"], "size": 0}})
    assert too_small.status_code == 400
    await act(demo, one["id"], "os-extend", new_size=2)
    assert (await act(demo, one["id"], "revert", snapshot_id=snapshot["id"])).status_code == 202
    assert (await reached(demo, f"{V3}/volumes/{one['id']}", "available"))["size"] == 1
    assert (await demo.delete(f"{V3}/volumes/{one['id']}?cascade=True")).status_code == 202
    await gone(demo, f"{V3}/volumes/{one['id']}")
    await gone(demo, f"{V3}/snapshots/{snapshot['id']}")
    assert not (api.services.settings.volumes_dir / "snapshots" / snapshot["id"]).exists()


async def test_others_do_not_see_it(api: Deployment, demo: httpx.AsyncClient) -> None:
    one = await volume(demo, size=1)
    async with api.signed_in("other") as other, api.signed_in("admin") as admin, api.signed_in("reader") as reader:
        assert (await other.get(f"{V3}/volumes/{one['id']}")).status_code == 404
        assert (await other.delete(f"{V3}/volumes/{one['id']}")).status_code == 404
        assert (await other.post(f"{V3}/volumes", json={"volume": {"source_volid": one["id"]}})).status_code == 404
        assert (await other.get(f"{V3}/volumes/detail?all_tenants=1")).json()["volumes"] == []
        everything = (await admin.get(f"{V3}/volumes/detail?all_tenants=1")).json()["volumes"]
        assert one["id"] in [found["id"] for found in everything]
        assert (await reader.get(f"{V3}/volumes/{one['id']}")).status_code == 200
        assert (await reader.delete(f"{V3}/volumes/{one['id']}")).status_code == 403
        assert (await act(demo, one["id"], "os-reset_status", status="error")).status_code == 403
        assert (await act(admin, one["id"], "os-reset_status", status="error")).status_code == 202


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"volume": []}, 400),
        ({"volume": {}}, 400),
        ({"volume": {"size": "x"}}, 400),
        ({"volume": {"size": -1}}, 400),
        ({"volume": {"size": 10**9}}, 400),
        ({"volume": {"size": 1, "name": 5}}, 400),
        ({"volume": {"size": 1, "metadata": {"a": 1}}}, 400),
        ({"volume": {"size": 1, "availability_zone": "nozone"}}, 400),
        ({"volume": {"size": 1, "volume_type": "ssd"}}, 404),
        ({"volume": {"size": 1, "imageRef": "x"}}, 400),
        ({"volume": {"size": 1, "snapshot_id": "x"}}, 404),
        ({"volume": {"size": 12_000}}, 413),
    ],
)
async def test_bad_bodies(demo: httpx.AsyncClient, body: Any, status: int) -> None:
    answer = await demo.post(f"{V3}/volumes", json=body)
    assert answer.status_code == status, answer.text
    assert next(iter(answer.json().values()))["code"] == status


async def test_paths_with_a_project_and_microversions(demo: httpx.AsyncClient) -> None:
    project = (await demo.get("/identity/v3/projects")).json()["projects"][0]["id"]
    answer = await demo.get(f"{V3}/{project}/volumes/detail", headers={"OpenStack-API-Version": "volume 3.42"})
    assert answer.status_code == 200
    assert answer.headers["openstack-api-version"] == "volume 3.42"
    for asked in ("volume 3.999", "volume 3.latest", "volume new"):
        refused = await demo.get(f"{V3}/volumes", headers={"OpenStack-API-Version": asked})
        assert refused.status_code == 406, asked
        assert list(refused.json()) == ["computeFault"]
        assert (refused.headers.get("vary"), "openstack-api-version" in refused.headers) == (VARY, False)
    for path, status in (("volumes/nope", 404), ("os-services", 403), ("volumes?limit=x", 400)):
        refused = await demo.get(f"{V3}/{path}", headers={"OpenStack-API-Version": "volume 3.42"})
        assert (refused.status_code, refused.headers["vary"]) == (status, VARY)
        assert refused.headers["openstack-api-version"] == "volume 3.42"


async def test_work_that_was_cut_off_is_done_by_the_next_start(tmp_path: Path) -> None:
    fields = {"size_gb": 1, "name": "cut", "status": "creating", "disk_format": "qcow2"}
    async with running_api(tmp_path) as api, api.signed_in("demo") as demo:
        project = (await demo.get("/identity/v3/projects")).json()["projects"][0]["id"]
        context = CommandContext(SERVICE, "req-test")
        made = await api.services.commands.create("volume", fields | {"project_id": project}, context)
        lost = fields | {"project_id": project, "snapshot_id": "6d9bd9b2-1b0f-4a32-9b63-6f2b0a2d9f11"}
        hopeless = await api.services.commands.create("volume", lost, context)
        dying = await api.services.commands.create("volume", fields | {"status": "deleting"}, context)
    async with running_api(tmp_path) as api, api.signed_in("demo") as demo:
        await reached(demo, f"{V3}/volumes/{made.id}", "available")
        assert (api.services.settings.volumes_dir / made.id).exists()
        await reached(demo, f"{V3}/volumes/{hopeless.id}", "error")
        failed = await api.services.read.resource("volume", hopeless.id)
        assert isinstance(failed, Volume)
        assert "qemu-img" in failed.fault
        async with api.signed_in("admin") as admin:
            await gone(admin, f"{V3}/volumes/{dying.id}")


async def left(api: Deployment, status: str, **fields: Any) -> str:
    """A volume in the middle of a work that no process is at; its id."""
    given = {"size_gb": 1, "name": "left", "status": status, "disk_format": "qcow2"} | fields
    return (await api.services.commands.create("volume", given, CommandContext(SERVICE, "req-test"))).id


async def status_of(api: Deployment, kind: str, id_: str) -> str:
    found: Any = await api.services.commands.load(kind, id_)
    return str(found.status)


@pytest.mark.parametrize("status", ["uploading", "reverting", "extending"])
async def test_a_second_process_leaves_what_the_first_is_at(api: Deployment, status: str) -> None:
    first, second = Work(api.services), Work(api.services)
    volume_id = await left(api, status)
    with first.hold(volume_id):
        await second.resume()
        assert await status_of(api, "volume", volume_id) == status
    await second.resume()
    assert await status_of(api, "volume", volume_id) == "available"
    await second.stop()


async def test_a_second_process_makes_nothing_twice(
    api: Deployment, demo: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    begun, go_on, create = asyncio.Event(), asyncio.Event(), disks.create

    async def slow(path: Path, size_gb: int, format_: str) -> None:
        made.append(path.name)
        begun.set()
        await go_on.wait()
        await create(path, size_gb, format_)

    monkeypatch.setattr(disks, "create", slow)
    answer = await demo.post(f"{V3}/volumes", json={"volume": {"size": 1}})
    volume_id = answer.json()["volume"]["id"]
    async with asyncio.timeout(60):
        await begun.wait()
    second = Work(api.services)
    await second.resume()
    go_on.set()
    await reached(demo, f"{V3}/volumes/{volume_id}", "available")
    await second.stop()
    assert made == [volume_id]


@pytest.mark.parametrize("end", ["error", "available"])
async def test_work_that_ends_while_the_log_is_away_says_so_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    create = disks.create

    async def ends(path: Path, size_gb: int, format_: str) -> None:
        begun.set()
        await go_on.wait()
        if end == "error":
            raise disks.DiskFailed("The disk is broken")
        await create(path, size_gb, format_)

    monkeypatch.setattr(disks, "create", ends)
    monkeypatch.setattr(work, "PAUSE_SECONDS", 0.1)
    async with running_api(tmp_path) as api, api.signed_in("demo") as demo, asyncio.timeout(120):
        answer = await demo.post(f"{V3}/volumes", json={"volume": {"size": 1}})
        await begun.wait()
        await asyncio.to_thread(api.nats.stop)
        refused, update = asyncio.Event(), api.services.commands.update

        async def seen(*arguments: Any, **options: Any) -> Any:
            try:
                return await update(*arguments, **options)
            except Unavailable:
                refused.set()
                raise

        monkeypatch.setattr(api.services.commands, "update", seen)
        go_on.set()
        await refused.wait()
        await asyncio.to_thread(api.nats.restart)
        status = ""
        while status != end:
            assert status in ("", "creating"), status
            await asyncio.sleep(0.05)
            try:
                status = await status_of(api, "volume", answer.json()["volume"]["id"])
            except Unavailable:
                continue


async def test_a_volume_is_deleted_though_the_log_was_away(
    api: Deployment, demo: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "PAUSE_SECONDS", 0.1)
    one = await volume(demo, size=1)
    delete, refusals = api.services.commands.delete, [Unavailable("The log does not answer")]

    async def refusing(*given: Any, **named: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await delete(*given, **named)

    monkeypatch.setattr(api.services.commands, "delete", refusing)
    assert (await demo.delete(f"{V3}/volumes/{one['id']}")).status_code == 202
    await gone(demo, f"{V3}/volumes/{one['id']}")
    assert refusals == []


async def test_a_volume_whose_image_can_not_be_made_is_available_again(
    api: Deployment, demo: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await volume(demo, size=1)
    create = api.services.commands.create

    async def refusing(kind: str, *given: Any, **named: Any) -> Any:
        if kind == "image":
            raise Unavailable("The log does not answer")
        return await create(kind, *given, **named)

    monkeypatch.setattr(api.services.commands, "create", refusing)
    answer = await act(demo, one["id"], "os-volume_upload_image", image_name="never")
    assert answer.status_code == 503, answer.text
    await reached(demo, f"{V3}/volumes/{one['id']}", "available")
    assert (await demo.delete(f"{V3}/volumes/{one['id']}")).status_code == 202
    await gone(demo, f"{V3}/volumes/{one['id']}")


async def test_an_image_whose_upload_was_cut_off_is_killed_by_the_next_start(api: Deployment) -> None:
    second = Work(api.services)
    volume_id, other = await left(api, "uploading"), await left(api, "available")
    fields = {"status": "saving", "disk_format": "qcow2", "container_format": "bare"}
    images = []
    for copied in (volume_id, other):
        made = await api.services.commands.create(
            "image", fields | {"volume_id": copied}, CommandContext(SERVICE, "req-test")
        )
        images.append(made.id)
    directory = api.services.settings.images_dir
    parts = [directory / name for name in (f".{images[0]}.part", f"..{images[0]}.part.0badcafe")]
    directory.mkdir(exist_ok=True)
    for part in parts:
        await asyncio.to_thread(part.write_bytes, b"half")
    await second.resume()
    assert [await status_of(api, "image", one) for one in images] == ["killed", "saving"]
    assert not any(part.exists() for part in parts)
    assert await status_of(api, "volume", volume_id) == "available"
    await second.stop()
