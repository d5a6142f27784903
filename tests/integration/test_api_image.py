"""Image v2 on a running API: data in and out, what is refused, interruption, sharing, who sees what."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.deployment import Deployment, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")
OCTETS = {"content-type": "application/octet-stream"}
PATCH = {"content-type": "application/openstack-images-v2.1-json-patch"}
LIMIT = 3 << 20


def qcow2(virtual_size: int = 1 << 30, *, backing: int = 0, incompatible: int = 0) -> bytes:
    """A qcow2 header and some data."""
    head = b"QFI\xfb" + struct.pack(">IQIIQ", 3, backing, 0, 16, virtual_size)
    return head.ljust(72, b"\0") + struct.pack(">Q", incompatible) + bytes(4096)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running_api(tmp_path_factory.mktemp("image"), max_image_bytes=LIMIT) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("demo") as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("other") as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("admin") as client:
        yield client


async def new_image(client: httpx.AsyncClient, **fields: Any) -> str:
    body = {"name": "img", "disk_format": "qcow2", "container_format": "bare"} | fields
    answer = await client.post("/image/v2/images", json=body)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


async def put(client: httpx.AsyncClient, image_id: str, data: Any) -> httpx.Response:
    return await client.put(f"/image/v2/images/{image_id}/file", content=data, headers=OCTETS)


async def show(client: httpx.AsyncClient, image_id: str) -> dict[str, Any]:
    answer = await client.get(f"/image/v2/images/{image_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_data_goes_in_chunked_and_comes_out_equal(api: Deployment, demo: httpx.AsyncClient) -> None:
    data = qcow2(5 << 30) + bytes(range(256)) * 4096

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 70_000):
            yield data[at : at + 70_000]

    image_id = await new_image(demo)
    assert (await show(demo, image_id))["status"] == "queued"
    assert (await demo.get(f"/image/v2/images/{image_id}/file")).status_code == 204
    assert (await put(demo, image_id, chunks())).status_code == 204
    image = await show(demo, image_id)
    assert image["status"] == "active"
    assert image["size"] == len(data)
    assert image["virtual_size"] == 5 << 30
    assert image["checksum"] == hashlib.md5(data).hexdigest()
    assert image["os_hash_value"] == hashlib.sha512(data).hexdigest()
    out = await demo.get(f"/image/v2/images/{image_id}/file")
    assert out.content == data
    assert out.headers["content-md5"] == image["checksum"]
    part = await demo.get(f"/image/v2/images/{image_id}/file", headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == data[100:200]
    assert (await put(demo, image_id, data)).status_code == 409
    assert (await demo.delete(f"/image/v2/images/{image_id}")).status_code == 204
    assert not (api.services.settings.images_dir / image_id).exists()
    assert (await demo.get(f"/image/v2/images/{image_id}")).status_code == 404


@pytest.mark.parametrize(
    ("data", "fields", "status", "words"),
    [
        (qcow2(backing=4096), {}, 400, "backing file"),
        (qcow2(incompatible=4), {}, 400, "another file"),
        (b"no qcow2 at all" * 100, {}, 400, "not a qcow2"),
        (qcow2(), {"disk_format": "raw"}, 400, "is a qcow2"),
        (qcow2()[:40], {}, 400, "cut off"),
        (bytes(LIMIT + 1), {"disk_format": "raw"}, 413, "larger"),
    ],
)
async def test_images_that_are_refused_leave_nothing_and_can_be_uploaded_again(
    api: Deployment, demo: httpx.AsyncClient, data: bytes, fields: dict[str, str], status: int, words: str
) -> None:
    image_id = await new_image(demo, **fields)

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    answer = await put(demo, image_id, chunks())
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert (await show(demo, image_id))["status"] == "queued"
    assert not (api.services.settings.images_dir / image_id).exists()
    assert not list((api.services.settings.images_dir / ".uploads").iterdir())
    good = bytes(1000) if fields else qcow2()
    assert (await put(demo, image_id, good)).status_code == 204


async def test_a_cut_connection_leaves_the_image_queued(api: Deployment, demo: httpx.AsyncClient) -> None:
    image_id = await new_image(demo)
    port = int(api.base_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"PUT /image/v2/images/{image_id}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {demo.headers['x-auth-token']}\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n"
    )
    writer.write(head.encode() + qcow2())
    await writer.drain()
    async with asyncio.timeout(60):
        while (await show(demo, image_id))["status"] != "saving":
            await asyncio.sleep(0.01)
        competing = await put(demo, image_id, qcow2())
        assert competing.status_code == 409
        assert (await show(demo, image_id))["status"] == "saving"
        writer.close()
        while (await show(demo, image_id))["status"] != "queued":
            await asyncio.sleep(0.01)
    del reader
    assert (await put(demo, image_id, qcow2())).status_code == 204


async def test_a_killed_upload_is_taken_up_again(tmp_path: Path) -> None:
    """What a killed process leaves: status saving, and a part of the file."""
    async with running_api(tmp_path) as api, api.signed_in("demo") as demo:
        image_id = await new_image(demo)
        parts = api.services.settings.images_dir / ".uploads"
        await asyncio.to_thread(parts.mkdir, parents=True)
        await asyncio.to_thread((parts / image_id).write_bytes, b"half")
        from commands.context import SERVICE, CommandContext

        context = CommandContext(SERVICE, "req-test")
        await api.services.commands.update("image", image_id, {"status": "saving"}, context)
    async with running_api(tmp_path) as api, api.signed_in("demo") as demo:
        assert not list(await asyncio.to_thread(lambda: [*parts.iterdir()]))
        assert (await put(demo, image_id, qcow2())).status_code == 204
        assert (await show(demo, image_id))["status"] == "active"


async def test_json_patch(demo: httpx.AsyncClient) -> None:
    image_id = await new_image(demo, tags=["a"], os_distro="debian")

    async def patch(*operations: dict[str, Any]) -> httpx.Response:
        return await demo.patch(
            f"/image/v2/images/{image_id}", content=httpx.Request("", "", json=operations).content, headers=PATCH
        )

    answer = await patch(
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "add", "path": "/hw_disk_bus", "value": "virtio"},
        {"op": "remove", "path": "/os_distro"},
        {"op": "replace", "path": "/tags", "value": ["b", "c"]},
        {"op": "replace", "path": "/min_disk", "value": 2},
    )
    assert answer.status_code == 200, answer.text
    image = answer.json()
    assert (image["name"], image["hw_disk_bus"], image["tags"], image["min_disk"]) == ("new", "virtio", ["b", "c"], 2)
    assert "os_distro" not in image
    refusals: list[tuple[dict[str, Any], int]] = [
        ({"op": "remove", "path": "/os_distro"}, 409),
        ({"op": "replace", "path": "/nothing", "value": "x"}, 409),
        *(
            ({"op": verb, "path": f"/{key}", "value": "x"}, 403)
            for key in ("id", "status", "size", "checksum", "created_at", "updated_at", "self", "file", "schema")
            for verb in ("add", "replace", "remove")
        ),
        ({"op": "replace", "path": "/direct_url", "value": "x"}, 403),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "replace", "path": "/owner", "value": "x"}, 403),
        ({"op": "move", "path": "/name"}, 400),
        ({"op": "add", "path": "name", "value": "x"}, 400),
        ({"op": "add", "path": "/a", "value": 1}, 400),
        ({"op": "add", "path": "/a"}, 400),
    ]
    for operation, status in refusals:
        assert (await patch(operation)).status_code == status, operation
    wrong_type = await demo.patch(f"/image/v2/images/{image_id}", json=[])
    assert wrong_type.status_code == 415


async def test_who_sees_an_image(demo: httpx.AsyncClient, other: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    image_id = await new_image(demo, name="mine", visibility="shared")

    async def names(client: httpx.AsyncClient, **params: str) -> list[str]:
        return [one["name"] for one in (await client.get("/image/v2/images", params=params)).json()["images"]]

    url = f"/image/v2/images/{image_id}"
    assert (await other.get(url)).status_code == 404
    assert "mine" not in await names(other)
    project = (await other.get("/identity/v3/projects")).json()["projects"][0]["id"]
    assert (await demo.post(f"{url}/members", json={"member": project})).status_code == 200
    assert (await demo.post(f"{url}/members", json={"member": project})).status_code == 409
    assert (await other.get(url)).status_code == 200
    assert "mine" not in await names(other)
    accepted = await other.put(f"{url}/members/{project}", json={"status": "accepted"})
    assert accepted.json()["status"] == "accepted"
    assert "mine" in await names(other)
    assert (await other.delete(url)).status_code == 403
    assert (await demo.delete(f"{url}/members/{project}")).status_code == 204
    assert (await other.get(url)).status_code == 404
    answer = await admin.patch(
        url, content=b'[{"op": "replace", "path": "/visibility", "value": "public"}]', headers=PATCH
    )
    assert answer.status_code == 200
    assert "mine" in await names(other)
    assert (await admin.post(f"{url}/actions/deactivate")).status_code == 403  # it has no data yet
    assert (await put(demo, image_id, qcow2())).status_code == 204
    assert (await admin.post(f"{url}/actions/deactivate")).status_code == 204
    assert (await other.get(f"{url}/file")).status_code == 403
    assert (await admin.post(f"{url}/actions/reactivate")).status_code == 204
    assert (await other.get(f"{url}/file")).status_code == 200


async def test_a_protected_image_stays(demo: httpx.AsyncClient) -> None:
    image_id = await new_image(demo, protected=True)
    assert (await demo.delete(f"/image/v2/images/{image_id}")).status_code == 403


async def test_lists_are_paged_and_filtered(demo: httpx.AsyncClient) -> None:
    ids = [await new_image(demo, name="page", tags=["paged"], kind=str(number)) for number in range(5)]
    seen: list[str] = []
    url: str | None = "/v2/images?limit=2&tag=paged"
    while url:
        body = (await demo.get(f"/image{url}")).json()
        seen += [one["id"] for one in body["images"]]
        url = body.get("next")
    assert sorted(seen) == sorted(ids)
    assert len(seen) == 5
    found = (await demo.get("/image/v2/images", params={"kind": "3"})).json()["images"]
    assert [one["id"] for one in found] == [ids[3]]
    assert (await demo.get("/image/v2/images", params={"name": "page", "status": "active"})).json()["images"] == []
    assert len((await demo.get("/image/v2/images", params={"id": f"in:{ids[0]},{ids[1]}"})).json()["images"]) == 2
    assert (await demo.get("/image/v2/images", params={"sort_key": "nothing"})).status_code == 400
    assert (await demo.get("/image/v2/images", params={"limit": "x"})).status_code == 400


async def test_a_reader_cannot_create(api: Deployment) -> None:
    async with api.signed_in("reader") as reader:
        assert (await reader.post("/image/v2/images", json={"name": "x"})).status_code == 403
