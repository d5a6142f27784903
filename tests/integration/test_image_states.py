"""The states of an image that a server fills, as the image API shows them, and how far the filling is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api import identity, image, v1
from commands import steps_images
from commands.progress import Tell
from domain.resources import Image, decode
from tests.plane import WAIT_SECONDS, Plane, running_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    mounts = {"v1": v1, "identity": identity, "image": image}
    async with running_plane(tmp_path_factory.mktemp("plane"), mounts) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(plane: Plane) -> AsyncIterator[httpx.AsyncClient]:
    async with plane.signed_in("demo") as client:
        yield client


async def begin(plane: Plane, demo: httpx.AsyncClient, command: str, server_id: str, **params: Any) -> str:
    """Give a command that makes an image; the image's id."""
    body = {"type": command, "server_id": server_id, "params": params}
    answer = await demo.post("/v1/commands", json=body)
    assert answer.status_code == 202, answer.text
    newest = [decode("image", one.commit.state) async for one in plane.services.log.scan_last("image")]
    (made,) = [one.id for one in newest if isinstance(one, Image) and one.made_for == server_id]
    return made


class Published:
    """In place of what measures an image's file."""

    def __init__(self, measure: Any) -> None:
        self.begun: list[Path] = []
        self.go_on = threading.Event()
        self._measure = measure

    def __call__(self, path: Path, tell: Tell) -> Any:
        self.begun.append(path)
        tell(40.0)
        assert self.go_on.wait(WAIT_SECONDS)
        return self._measure(path, tell)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """The upload of an image begins, and goes on when the test says so."""
    upload = Published(steps_images._digest)
    monkeypatch.setattr(steps_images, "_digest", upload)
    yield upload
    upload.go_on.set()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await holds():
            await asyncio.sleep(0.02)


async def status_of(demo: httpx.AsyncClient, image_id: str) -> str:
    return str((await demo.get(f"/image/v2/images/{image_id}")).json()["status"])


async def is_shown_as(demo: httpx.AsyncClient, image_id: str, status: str) -> bool:
    return await status_of(demo, image_id) == status


async def life_of(plane: Plane, image_id: str) -> list[str]:
    """The statuses that an image had, oldest first, by the log; `gone` for its end."""
    states = [decode("image", one.commit.state) for one in await plane.services.log.read("image", image_id)]
    assert all(isinstance(one, Image) for one in states)
    return ["gone" if one.deleted else one.status for one in states if isinstance(one, Image)]


@pytest.mark.parametrize(
    ("command", "params"),
    [
        ("create-image", {"name": "image"}),
        ("create-backup", {"name": "backup", "backup_type": "daily", "rotation": 3}),
        ("shelve", {}),
    ],
    ids=["create-image", "create-backup", "shelve"],
)
async def test_an_image_is_saving_while_its_server_fills_it(
    plane: Plane, demo: httpx.AsyncClient, published: Published, command: str, params: dict[str, Any]
) -> None:
    server_id = await plane.create(demo, command)
    image_id = await begin(plane, demo, command, server_id, **params)
    await until(lambda: asyncio.sleep(0, bool(published.begun)))
    await until(partial(is_shown_as, demo, image_id, "saving"))
    octets = {"Content-Type": "application/octet-stream"}
    data = await demo.put(f"/image/v2/images/{image_id}/file", content=b"mine", headers=octets)
    assert (data.status_code, "being filled" in data.text) == (409, True)
    published.go_on.set()
    assert (await plane.settled(server_id)).fault is None
    assert await status_of(demo, image_id) == "active"
    assert await life_of(plane, image_id) == ["queued", "saving", "active"]


async def test_an_image_that_can_not_be_filled_is_killed_and_gone(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "fail-snapshot")
    image_id = await begin(plane, demo, "create-image", server_id, name="never")
    server = await plane.settled(server_id)
    assert (server.vm_state, server.task_state, server.fault.reason) == ("active", None, "simulated_failure")
    assert (await demo.get(f"/image/v2/images/{image_id}")).status_code == 404
    assert await life_of(plane, image_id) == ["queued", "saving", "killed", "gone"]


async def test_publishing_tells_how_far_it_is_and_is_done_once(
    plane: Plane, demo: httpx.AsyncClient, published: Published
) -> None:
    server_id = await plane.create(demo, "published")
    image_id = await begin(plane, demo, "create-image", server_id, name="published")

    async def told() -> bool:
        story = await demo.get(f"/v1/servers/{server_id}/history")
        return "upload image, 40 %" in story.text

    await until(told)
    server = await plane.services.commands.load_server(server_id)
    assert server is not None
    assert (server.progress, server.task_state) == (40, "image_uploading")
    # A commit that is none of the step's own does not begin it once more either.
    renamed = {"type": "update", "server_id": server_id, "params": {"description": "meanwhile"}}
    assert (await demo.post("/v1/commands", json=renamed)).status_code == 202
    published.go_on.set()
    assert (await plane.settled(server_id)).progress == 0
    assert await status_of(demo, image_id) == "active"
    assert len(published.begun) == 1
