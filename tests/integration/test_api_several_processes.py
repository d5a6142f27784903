"""Two API processes on one log: what only one of them may give, only one gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio

from api import compute, identity, v1
from api.auth import Tokens, load_keys
from commands.handler import Commands
from tests.plane import Plane, _app, _serving, running_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOUNTS = {"compute": compute, "identity": identity, "v1": v1}
ROOM = 5


@asynccontextmanager
async def another(plane: Plane) -> AsyncIterator[Plane]:
    """A second process's worth of API: it shares the log and the read model, and nothing in memory."""
    at = plane.services

    async def visible(position: int) -> None:
        await at.read.wait_for(position, 60)

    commands = Commands(at.log, visible=visible, settings=at.commands.settings, hosts=at.commands.hosts)
    tokens = Tokens(load_keys(at.settings.data_dir), at.read)
    services = replace(at, commands=commands, tokens=tokens)
    second = replace(plane, services=services, app=_app(services, MOUNTS))
    async with _serving(second):
        yield second


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def planes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Plane, Plane]]:
    async with running_plane(tmp_path_factory.mktemp("several"), MOUNTS) as first, another(first) as second:
        yield first, second


async def limit(plane: Plane, **limits: int) -> None:
    async with plane.signed_in("admin") as admin:
        path = f"/compute/v2.1/os-quota-sets/{plane.ids['project demo']}"
        answer = await admin.put(path, json={"quota_set": limits | {"force": True}})
        assert answer.status_code == 200, answer.text


async def ask(client: httpx.AsyncClient, name: str, key: str = "") -> httpx.Response:
    params = {"name": name, "flavor": "m1.nano", "image": "tiny", "networks": []}
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post("/v1/commands", json={"type": "create", "params": params}, headers=headers)


async def test_together_they_give_the_quota_and_no_more(planes: tuple[Plane, Plane]) -> None:
    await limit(planes[0], instances=ROOM)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(plane.signed_in("demo")) for plane in planes]
        wanted = [ask(clients[number % 2], f"web-{number}", f"key-{number}") for number in range(4 * ROOM)]
        answers = await asyncio.gather(*wanted)
        codes = [answer.status_code for answer in answers]
        assert sorted(codes) == [202] * ROOM + [403] * 3 * ROOM
        given = codes.index(202)
        again = await ask(clients[(given + 1) % 2], f"web-{given}", f"key-{given}")
        assert again.json() == answers[given].json()
        refused = answers[codes.index(403)].json()
        assert (refused["reason"], bool(refused["hint"])) == ("quota", True)
        for one in answers:
            if one.status_code == 202:
                await planes[0].settled(one.json()["server_id"])
        freed = answers[given].json()["server_id"]
        await clients[0].post("/v1/commands", json={"type": "delete", "server_id": freed})
        await planes[0].settled(freed)
        more = await asyncio.gather(*(ask(clients[number % 2], f"more-{number}") for number in range(4)))
        assert sorted(one.status_code for one in more) == [202, 403, 403, 403]
    await limit(planes[0], instances=-1)


async def test_a_resize_is_bound_by_the_quota_too(planes: tuple[Plane, Plane]) -> None:
    async with planes[0].signed_in("demo") as client, planes[0].signed_in("admin") as admin:
        flavor = {"name": "larger", "ram": 4096, "vcpus": 1, "disk": 1}
        assert (await admin.post("/compute/v2.1/flavors", json={"flavor": flavor})).status_code == 200
        server_id = (await ask(client, "grows")).json()["server_id"]
        await planes[0].settled(server_id)
        await limit(planes[0], ram=1)
        grow = {"type": "resize", "server_id": server_id, "params": {"flavor": "larger"}}
        answer = await client.post("/v1/commands", json=grow)
        assert (answer.status_code, answer.json()["reason"]) == (403, "quota")
        await limit(planes[0], ram=-1)
        assert (await client.post("/v1/commands", json=grow)).status_code == 202
        await planes[0].settled(server_id)


async def test_a_resize_that_is_refused_anyway_claims_nothing_and_is_told_no_figures(
    planes: tuple[Plane, Plane],
) -> None:
    services, project = planes[0].services, planes[0].ids["project demo"]
    async with AsyncExitStack() as stack:
        demo = await stack.enter_async_context(planes[0].signed_in("demo"))
        reader = await stack.enter_async_context(planes[0].signed_in("reader", project="demo"))
        server_id = (await ask(demo, "kept-small")).json()["server_id"]
        await planes[0].settled(server_id)
        before = await services.log.read("quota_claims", project)
        grow = {"type": "resize", "server_id": server_id, "params": {"flavor": "m1.small"}}
        for ram in (1, 1 << 20):
            await limit(planes[0], ram=ram)
            for path in ("/v1/commands", "/v1/commands?dry_run=true"):
                answer = await reader.post(path, json=grow)
                assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden"), answer.text
        await demo.post("/v1/commands", json={"type": "pause", "server_id": server_id})
        await planes[0].settled(server_id)
        keyed = {"Idempotency-Key": "grow-paused"}
        answer = await demo.post("/v1/commands", json=grow, headers=keyed)
        assert (answer.status_code, answer.json()["reason"]) == (409, "vm_state"), answer.text
        flavors = (await demo.get("/compute/v2.1/flavors")).json()["flavors"]
        (small,) = [one["id"] for one in flavors if one["name"] == "m1.small"]
        action = {"resize": {"flavorRef": small}}
        assert (await demo.post(f"/compute/v2.1/servers/{server_id}/action", json=action)).status_code == 409
        assert await services.log.read("quota_claims", project) == before
        async with asyncio.timeout(60):  # each that was not only tried is in the history, of both APIs
            while len(told := await services.read.rejections(aggregate_id=server_id)) < 4:
                await asyncio.sleep(0.02)
        assert sorted((one.command, one.code) for one in told) == [("resize", 403)] * 2 + [("resize", 409)] * 2
        await limit(planes[0], ram=-1)


async def test_resizes_at_once_get_exactly_the_room_there_is(planes: tuple[Plane, Plane]) -> None:
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(planes[0].signed_in("admin"))
        clients = [await stack.enter_async_context(plane.signed_in("demo")) for plane in planes]
        flavor = {"name": "twice", "ram": 192, "vcpus": 1, "disk": 1}
        assert (await admin.post("/compute/v2.1/flavors", json={"flavor": flavor})).status_code == 200
        made = await asyncio.gather(*(ask(clients[0], f"resized-{number}") for number in range(6)))
        ids = [one.json()["server_id"] for one in made]
        for one in ids:
            await planes[0].settled(one)
        used = await planes[0].services.read.usage(planes[0].ids["project demo"])
        await limit(planes[0], ram=used.ram + 2 * 96)

        async def grow(number: int, key: str = "") -> httpx.Response:
            body = {"type": "resize", "server_id": ids[number], "params": {"flavor": "twice"}}
            headers = {"Idempotency-Key": key} if key else {}
            return await clients[number % 2].post("/v1/commands", json=body, headers=headers)

        answers = await asyncio.gather(*(grow(number, f"grow-{number}") for number in range(len(ids))))
        codes = [answer.status_code for answer in answers]
        assert sorted(codes) == [202] * 2 + [403] * 4
        first, refused = codes.index(202), codes.index(403)
        assert answers[refused].json()["reason"] == "quota"
        again = await grow(first, f"grow-{first}")
        assert again.json() == answers[first].json()
        await planes[0].settled(ids[first])
        assert (await grow(refused)).status_code == 403
        revert = {"type": "revert-resize", "server_id": ids[first]}
        assert (await clients[0].post("/v1/commands", json=revert)).status_code == 202
        await planes[0].settled(ids[first])
        assert (await grow(refused)).status_code == 202
        assert (await grow(first)).status_code == 403
    await limit(planes[0], ram=-1)


async def test_a_name_is_given_once(planes: tuple[Plane, Plane]) -> None:
    async with AsyncExitStack() as stack:
        admins = [await stack.enter_async_context(plane.signed_in("admin")) for plane in planes]
        for kind in ("user", "project", "role"):
            path = f"/identity/v3/{kind}s"
            same = [admins[number % 2].post(path, json={kind: {"name": "only"}}) for number in range(8)]
            answers = await asyncio.gather(*same)
            assert sorted(one.status_code for one in answers) == [201] + [409] * 7, kind
            first = next(one.json()[kind]["id"] for one in answers if one.status_code == 201)
            others = [
                (await admins[0].post(path, json={kind: {"name": f"other-{n}"}})).json()[kind]["id"] for n in (1, 2)
            ]
            renamed = await asyncio.gather(
                *(admins[n].patch(f"{path}/{id_}", json={kind: {"name": "wanted"}}) for n, id_ in enumerate(others))
            )
            assert sorted(one.status_code for one in renamed) == [200, 409], kind
            assert (await admins[1].delete(f"{path}/{first}")).status_code == 204
            fresh = await admins[0].post(path, json={kind: {"name": "only"}})
            assert fresh.status_code == 201, fresh.text
            winner = next(one.json()[kind]["id"] for one in renamed if one.status_code == 200)
            assert (await admins[1].patch(f"{path}/{winner}", json={kind: {"name": "free"}})).status_code == 200
            assert (await admins[0].post(path, json={kind: {"name": "wanted"}})).status_code == 201
