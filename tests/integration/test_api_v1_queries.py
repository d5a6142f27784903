"""What /v1 tells about servers: now, then, what happened, why, what changed, and the proof that nobody rewrote it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api import identity, v1
from api.v1 import stream
from eventlog import archive
from tests.plane import WAIT_SECONDS, Plane, running_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    async with running_plane(tmp_path_factory.mktemp("plane"), {"v1": v1, "identity": identity}) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(plane: Plane) -> AsyncIterator[httpx.AsyncClient]:
    async with plane.signed_in("demo") as client:
        yield client


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def do(plane: Plane, client: httpx.AsyncClient, command: str, server_id: str, **params: Any) -> dict[str, Any]:
    answer = await client.post("/v1/commands", json={"type": command, "server_id": server_id, "params": params})
    assert answer.status_code == 202, answer.text
    await plane.settled(server_id)
    body: dict[str, Any] = answer.json()
    return body


async def test_history_holds_actions_steps_and_events_with_causes(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "story")
    stopped = await do(plane, demo, "stop", server_id)
    history = await get(demo, f"/v1/servers/{server_id}/history")
    assert [action["command"] for action in history["actions"]] == ["stop", "create"]
    stop, create = history["actions"]
    assert stop["request_id"] == stopped["request_id"]
    assert (stop["user_name"], stop["result"], stop["outcome"]) == ("demo", "Success", "succeeded")
    assert [step["step"] for step in stop["steps"]] == ["power_off"]
    assert [event["phase"] for event in stop["events"]] == ["accepted", "step_started", "step_finished", "succeeded"]
    assert [step["step"] for step in create["steps"]][:2] == ["schedule", "create_ports"]
    assert create["events"][0]["changed"]["task_state"] == "scheduling"
    causes = {event["position"]: event["caused_by"] for event in create["events"]}
    assert any(cause is not None and cause.isdigit() and int(cause) in causes for cause in causes.values())
    assert any(event["led_to"] for event in create["events"])
    text = json.dumps(history)
    assert '"admin_password": "(redacted)"' in text
    page = await get(demo, f"/v1/servers/{server_id}/history", limit=1)
    assert [action["command"] for action in page["actions"]] == ["stop"]
    rest = await get(demo, f"/v1/servers/{server_id}/history", limit=1, marker=page["next_marker"])
    assert [action["command"] for action in rest["actions"]] == ["create"]
    assert "next_marker" not in rest


async def test_a_past_moment_is_shown_as_it_was(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "before")
    renamed = await do(plane, demo, "update", server_id, name="after")
    then = await get(demo, f"/v1/servers/{server_id}", as_of=renamed["position"] - 1)
    assert then["server"]["name"] == "before"
    assert then["as_of"]["newest"] is False
    history = await get(demo, f"/v1/servers/{server_id}/history")
    at = history["actions"][0]["events"][0]["at"]
    now = await get(demo, f"/v1/servers/{server_id}", as_of=at)
    assert now["server"]["name"] == "after"
    assert (await demo.get(f"/v1/servers/{server_id}", params={"as_of": "1"})).json()["reason"] == "not_yet"
    assert (await demo.get(f"/v1/servers/{server_id}", params={"as_of": "soon"})).status_code == 400
    for to_come in ("2999-01-01T00:00:00Z", str(10**9), "9" * 26):
        answer = await demo.get(f"/v1/servers/{server_id}", params={"as_of": to_come})
        assert (answer.status_code, answer.json()["reason"]) == (400, "to_come")
    assert (await demo.get(f"/v1/servers/{server_id}/history", params={"limit": 0})).status_code == 400
    diff = await get(demo, f"/v1/servers/{server_id}/diff", **{"from": renamed["position"] - 1})
    changed = {change["field"]: (change["before"], change["after"]) for change in diff["changes"]}
    assert changed["name"] == ("before", "after")
    assert set(changed) == {"name", "updated_at", "version"}


async def test_a_list_is_shown_as_it_was(plane: Plane, demo: httpx.AsyncClient) -> None:
    first, second = [await plane.create(demo, f"listed-{number}") for number in range(2)]
    changed = await do(plane, demo, "update", first, name="renamed[1")
    renaming = (await get(demo, f"/v1/servers/{first}/history"))["actions"][0]["events"][0]["at"]
    await do(plane, demo, "delete", second)

    async def names(client: httpx.AsyncClient, moment: Any, **wanted: Any) -> list[str]:
        found = await get(client, "/v1/servers", as_of=moment, **wanted)
        return [one["name"] for one in found["servers"] if one["id"] in (first, second)]

    before = changed["position"] - 1
    assert await names(demo, before) == ["listed-1", "listed-0"]
    assert await names(demo, before, name="renamed") == []
    assert await names(demo, before, status="ACTIVE", name="^listed") == ["listed-1", "listed-0"]
    assert await names(demo, changed["position"]) == ["listed-1", "renamed[1"]
    assert await names(demo, changed["position"], name="renamed[") == ["renamed[1"]
    assert await names(demo, renaming) == ["listed-1", "renamed[1"]
    newest = await plane.services.log.last_position()
    assert await plane.services.read.wait_for(newest, WAIT_SECONDS)
    assert await names(demo, newest) == ["renamed[1"]
    assert await names(demo, newest, deleted="true") == ["listed-1", "renamed[1"]
    assert await names(demo, 1) == []
    page = await get(demo, "/v1/servers", as_of=before, limit=1)
    assert [one["name"] for one in page["servers"]] == ["listed-1"]
    rest = await get(demo, "/v1/servers", as_of=before, limit=1, marker=page["next_marker"])
    assert [one["name"] for one in rest["servers"]] == ["listed-0"]
    async with plane.signed_in("other") as other, plane.signed_in("admin") as admin:
        assert await names(other, before) == []
        assert await names(admin, before) == ["listed-1", "listed-0"]
    for wrong in ("soon", "2999-01-01T00:00:00Z", str(10**9)):
        assert (await demo.get("/v1/servers", params={"as_of": wrong})).status_code == 400
    assert (await demo.get("/v1/servers", params={"as_of": before, "marker": "nobody"})).status_code == 400


async def test_what_is_told_to_be_possible_can_be_given(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "possible")
    given = {one["type"] for one in (await get(demo, "/v1/commands"))["commands"] if one["available"]}
    shown = (await get(demo, f"/v1/servers/{server_id}"))["commands"]
    assert "stop" in shown
    assert set(shown) <= given
    for command, legal in (("stop", True), ("remote-console", True), ("detach-share", False), ("add-fixed-ip", False)):
        told = await get(demo, f"/v1/servers/{server_id}/explain", command=command)
        assert told["command"]["legal"] is legal, command
        assert set(told["commands"]) <= given


async def test_no_valid_host_is_explained_with_evidence(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "too-big", flavor="m1.huge")
    told = await get(demo, f"/v1/servers/{server_id}/explain")
    assert (told["status"], told["kind"]) == ("ERROR", "failed")
    assert "No valid host was found" in told["summary"]
    assert told["step"]["step"] == "schedule"
    assert {row["host"] for row in told["evidence"]["rows"]} == {"host-1", "host-2"}
    assert all(row["need"] and row["have"] for row in told["evidence"]["rows"])
    assert told["advice"]
    assert "delete" in told["commands"]


async def test_a_failed_step_and_a_refusal_are_explained(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "web-fail-pause")
    refused = await demo.post("/v1/commands", json={"type": "resume", "server_id": server_id})
    assert refused.status_code == 409
    async with asyncio.timeout(WAIT_SECONDS):
        while not (told := await get(demo, f"/v1/servers/{server_id}/explain"))["rejections"]:
            await asyncio.sleep(0.1)
    assert told["kind"] == "well"
    assert told["rejections"][0]["reason"] == "vm_state"
    asked = await get(demo, f"/v1/servers/{server_id}/explain", command="resume")
    assert asked["command"]["legal"] is False
    assert "suspended" in asked["command"]["hint"]
    await do(plane, demo, "pause", server_id)
    told = await get(demo, f"/v1/servers/{server_id}/explain")
    assert told["kind"] == "failed"
    assert "pause" in told["summary"].lower()
    assert told["fault"]["message"]
    well = await plane.create(demo, "well")
    assert (await get(demo, f"/v1/servers/{well}/explain"))["kind"] == "well"


async def test_events_are_filtered_and_paged(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "eventful")
    stopped = await do(plane, demo, "stop", server_id)
    all_of_it = (await get(demo, "/v1/events", server=server_id))["events"]
    positions = [(event["position"], event["id"]) for event in all_of_it]
    assert positions == sorted(positions, key=lambda one: tuple(map(int, one[1].split("."))))
    assert all(event["specversion"] == "1.0" for event in all_of_it)
    of_request = (await get(demo, "/v1/events", request=stopped["request_id"]))["events"]
    assert {event["type"] for event in of_request} == {
        f"server.stop.{phase}" for phase in ("accepted", "step_started", "step_finished", "succeeded")
    }
    by_type = (await get(demo, "/v1/events", server=server_id, type="server.create.*"))["events"]
    assert all(event["type"].startswith("server.create.") for event in by_type)
    by_actor = (await get(demo, "/v1/events", server=server_id, actor="demo"))["events"]
    assert {event["actor"] for event in by_actor} == {"demo"}
    collected, after = [], None
    while True:
        page = await get(demo, "/v1/events", server=server_id, limit=3, **({"after": after} if after else {}))
        collected += page["events"]
        after = page.get("next_after")
        if after is None:
            break
    assert [event["id"] for event in collected] == [event["id"] for event in all_of_it]


async def read_stream(
    client: httpx.AsyncClient, count: int, opened: asyncio.Event | None = None, **options: Any
) -> list[dict[str, str]]:
    """The first messages of a stream. `opened` is set when it has begun."""
    messages: list[dict[str, str]] = []
    async with asyncio.timeout(WAIT_SECONDS), client.stream("GET", "/v1/events/stream", **options) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        if opened is not None:
            opened.set()
        message: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line == "" and "data" in message:
                messages.append(message)
                message = {}
                if len(messages) == count:
                    return messages
            elif name in ("id", "data"):
                message[name] = value
    return messages


async def test_the_stream_shows_what_happens_and_resumes(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "streamed")
    opened = asyncio.Event()
    following = asyncio.create_task(read_stream(demo, 4, opened, params={"server": server_id}))
    async with asyncio.timeout(WAIT_SECONDS):
        await opened.wait()
    await do(plane, demo, "stop", server_id)
    messages = await following
    assert [json.loads(message["data"])["type"] for message in messages] == [
        f"server.stop.{phase}" for phase in ("accepted", "step_started", "step_finished", "succeeded")
    ]
    event = json.loads(messages[0]["data"])
    assert [int(message["id"]) for message in messages] == [
        json.loads(message["data"])["position"] for message in messages
    ]
    assert event["subject"] == server_id
    # A position stands for all of its commit.
    position = {"Last-Event-ID": messages[0]["id"]}
    assert await read_stream(demo, 2, params={"server": server_id}, headers=position) == messages[2:]
    async with plane.signed_in("other") as stranger:
        foreign = asyncio.create_task(read_stream(stranger, 1, headers={"Last-Event-ID": "0"}))
        own = await plane.create(stranger, "mine")
        [first] = await foreign
        assert json.loads(first["data"])["subject"] != server_id
        assert json.loads(first["data"])["data"] or own


async def test_a_stream_cut_after_any_event_goes_on_exactly_there(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "cut")
    await do(plane, demo, "stop", server_id)
    query = {"server": server_id}
    listed = [event["id"] for event in (await get(demo, "/v1/events", **query))["events"]]
    whole = await read_stream(demo, len(listed), params=query | {"after": "0"})
    assert [json.loads(message["data"])["id"] for message in whole] == listed
    assert max(int(id.split(".")[1]) for id in listed) > 0
    for count, cut in enumerate(listed[:-1], 1):
        rest = len(listed) - count
        # What the browser had last counts for more than the address that it opened.
        opened, had_last = query | {"after": "0"}, {"Last-Event-ID": cut}
        assert await read_stream(demo, rest, params=opened, headers=had_last) == whole[count:]
        assert await read_stream(demo, rest, params=query | {"after": cut}) == whole[count:]


async def test_a_stream_tells_where_it_began_before_anything_happens(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "unseen")
    began = ""
    async with (
        asyncio.timeout(WAIT_SECONDS),
        demo.stream("GET", "/v1/events/stream", params={"server": server_id}) as one,
    ):
        async for line in one.aiter_lines():
            if line.startswith("id: "):
                began = line.removeprefix("id: ")
                break
    await do(plane, demo, "lock", server_id)
    missed = await read_stream(demo, 2, params={"server": server_id}, headers={"Last-Event-ID": began})
    assert [json.loads(message["data"])["type"] for message in missed] == [
        "server.lock.accepted",
        "server.lock.succeeded",
    ]


@pytest.mark.parametrize("bad", ["x", "-1", "1.", ".1", "1.x", "1.2.3", "1 2", "9" * 16, "1.99999"])
async def test_an_id_that_is_none_is_refused(demo: httpx.AsyncClient, bad: str) -> None:
    for path, headers, query in (
        ("/v1/events/stream", {"Last-Event-ID": bad}, {}),
        ("/v1/events/stream", {}, {"after": bad}),
        ("/v1/events", {}, {"after": bad}),
    ):
        answer = await demo.get(path, headers=headers, params=query)
        assert answer.status_code == 400, answer.text
        assert answer.json()["detail"].endswith(f"is no position and no id of an event: {bad!r}")


async def test_a_silent_stream_shows_that_it_lives_and_ends_when_told(
    demo: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    seen: list[str] = []
    async with (
        asyncio.timeout(WAIT_SECONDS),
        demo.stream("GET", "/v1/events/stream", params={"kind": "none"}) as answer,
    ):
        async for line in answer.aiter_lines():
            seen.append(line)
            if seen.count(": alive") == 2:
                stream.end_streams()
    assert seen.count(": alive") >= 2
    async with asyncio.timeout(WAIT_SECONDS):  # what others left half read ends, too
        while stream._open:
            await asyncio.sleep(0.01)


async def test_streams_are_bounded(demo: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_STREAMS", 0)
    answer = await demo.get("/v1/events/stream")
    assert (answer.status_code, answer.json()["reason"]) == (503, "streams")


async def test_the_machine_is_published_from_the_rules(demo: httpx.AsyncClient) -> None:
    machine = await get(demo, "/v1/machine")
    assert len(machine["cells"]) == 55 * 12 * 43
    assert machine["cells"][0].keys() == {"command", "vm_state", "task_state", "accepted", "task_state_after"}
    assert (await demo.get("/v1/machine?format=mermaid")).text.startswith("stateDiagram-v2")
    assert (await demo.get("/v1/machine?format=svg")).text.startswith("<svg")
    assert (await demo.get("/v1/machine?format=matrix")).text.startswith("#")
    assert (await demo.get("/v1/machine?format=gif")).status_code == 400


async def test_hosts_show_their_capacity_to_administrators(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "placed")
    host = (await plane.settled(server_id)).host
    seen = {one["name"]: one for one in (await get(demo, "/v1/hosts"))["hosts"]}
    assert server_id in {one["id"] for one in seen[host]["servers"]}
    assert seen[host]["up"] is True
    assert seen[host]["enforces_security_groups"] is False  # a simulated host has no network
    assert "used" not in seen[host]
    async with plane.signed_in("admin") as admin:
        seen = {one["name"]: one for one in (await get(admin, "/v1/hosts"))["hosts"]}
        assert seen[host]["used"]["servers"] >= 1


async def test_the_audit_proves_the_log_and_exports_it(plane: Plane, demo: httpx.AsyncClient, tmp_path: Path) -> None:
    await plane.create(demo, "audited")
    assert (await demo.post("/v1/audit/verify")).status_code == 403
    assert (await demo.get("/v1/audit/export")).status_code == 403
    assert (await get(demo, "/v1/audit/checkpoint"))["head"] > 0
    async with plane.signed_in("admin") as admin:
        proof = (await admin.post("/v1/audit/verify")).json()
        assert (proof["valid"], proof["finding"]) == (True, None)
        assert proof["commits"] == proof["position"] > 0
        exported = await admin.get("/v1/audit/export")
    file = tmp_path / "log.jsonl"
    file.write_bytes(exported.content)
    assert archive.verify(file) is None
    assert len(list(archive.read(file))) >= proof["position"]


async def test_lists_are_filtered_and_paged(plane: Plane, demo: httpx.AsyncClient) -> None:
    names = [f"list-{number}" for number in range(3)]
    for name in names:
        await plane.create(demo, name)
    first = await get(demo, "/v1/servers", name="^list-", limit=2)
    rest = await get(demo, "/v1/servers", name="^list-", limit=2, marker=first["next_marker"])
    assert [one["name"] for one in first["servers"] + rest["servers"]] == names[::-1]
    assert (await get(demo, "/v1/servers", status="ERROR", name="^list-"))["servers"] == []
    odd = await plane.create(demo, "list[3")
    assert [one["id"] for one in (await get(demo, "/v1/servers", name="t[3"))["servers"]] == [odd]
    for wrong in ({"status": "NICE"}, {"limit": "many"}, {"marker": "x"}, {"name": "("}):
        assert (await demo.get("/v1/servers", params=wrong)).status_code == 400


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/stream", "/v1/servers"])
async def test_an_unknown_query_parameter_is_refused_and_the_known_are_named(
    demo: httpx.AsyncClient, path: str
) -> None:
    answer = await demo.get(path, params={"sevrer": "x", "tpye": "y"})
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["detail"] == "Unknown query parameters: sevrer, tpye"
    for known in {"/v1/servers": ("name", "status", "host", "limit", "marker")}.get(path, ("server", "type", "after")):
        assert known in problem["hint"]
