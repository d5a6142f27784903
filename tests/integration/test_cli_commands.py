"""The small commands, on a running system and on a stopped one."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from cli import follow
from cli.client import System, connect
from tests.running import Running, chronova, running, until

pytestmark = pytest.mark.xdist_group("chronova up")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("cli") / "data") as system:
        with system.client() as client:
            server = system.create_server(client, "web")
            client.post(f"/compute/v2.1/servers/{server}/action", json={"os-stop": None})
            until(lambda: system.status(client, server) == "SHUTOFF", "stopped")
            refused = client.post(f"/compute/v2.1/servers/{server}/action", json={"pause": None})
            assert refused.status_code == 409
        yield system


def output_of(system: Running, *words: object) -> str:
    done = chronova(*words, data=system.data)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_history_shows_actions_steps_and_refusals(system: Running) -> None:
    def refused() -> str:
        shown = output_of(system, "history", "web")
        return shown if "Refused" in shown else ""

    shown = until(refused, "the refused command is shown")
    for word in ("create", "schedule", "spawn", "stop", "power_off", "Success", "pause"):
        assert word in shown
    assert "server.stop.accepted" in output_of(system, "history", "web", "--timeline")
    assert json.loads(output_of(system, "history", "web", "--json"))["actions"][0]["action"] == "stop"


def test_show_looks_back(system: Running) -> None:
    events = [json.loads(line) for line in output_of(system, "events", "--server", "web", "--json").splitlines()]
    created = next(event for event in events if event["type"] == "server.create.succeeded")
    position = created["id"].split(".")[0]
    now = output_of(system, "show", "web")
    assert "SHUTOFF" in now
    assert "server.stop.succeeded" in now
    then = output_of(system, "show", "web", "--as-of", position)
    assert "ACTIVE" in then
    assert "SHUTOFF" not in then
    led_to_it = json.loads(output_of(system, "show", "web", "--as-of", position, "--json"))["as_of"]
    assert (led_to_it["action"], led_to_it["by"]["user_name"]) == (
        {"command": "create", "asked_by": "demo"},
        "conductor",
    )


def test_events_begin_where_they_are_told_to(system: Running) -> None:
    all_of_them = output_of(system, "events").splitlines()
    position = int(all_of_them[-1].split(".")[0])
    from_there = output_of(system, "events", "--from", position).splitlines()
    assert from_there[0].startswith(f"{position}.0 ")
    later = output_of(system, "events", "--from", position + 1).splitlines()
    assert all(int(line.split(".")[0]) > position for line in later)  # a checkpoint may have come by itself


def test_explain_says_why_a_command_is_refused(system: Running) -> None:
    told = output_of(system, "explain", "web", "--command", "start")
    assert "SHUTOFF" in told
    assert "\nstart could be given now.\n" in told
    told = output_of(system, "explain", "web", "--command", "pause")
    assert "\npause can not be given now: Cannot 'pause' instance" in told
    assert "None" not in told
    unknown = chronova("explain", "web", "--command", "dance", data=system.data)
    told = "chronova: there is no command 'dance': `chronova machine` shows all of them\n"
    assert (unknown.returncode, unknown.stderr) == (2, told)


@pytest.mark.parametrize(
    "words",
    [
        ("show", ""),
        ("show", "a\nb"),
        ("show", "web", "--as-of", "garbage"),
        ("show", "web", "--as-of", "0001-01-01T00:00:00+23:59"),
        ("events", "--from", "99999999999999999999"),
    ],
)
def test_what_can_not_be_meant_is_wrong_usage(system: Running, words: tuple[str, ...]) -> None:
    done = chronova(*words, data=system.data)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_a_deleted_server_is_found_by_its_name(system: Running) -> None:
    with system.client() as client:
        server = system.create_server(client, "leaver")
        client.delete(f"/compute/v2.1/servers/{server}")
        until(lambda: client.get(f"/compute/v2.1/servers/{server}").status_code == 404, "gone")
    assert "delete" in output_of(system, "history", "leaver")
    told = output_of(system, "explain", "leaver")
    assert told.startswith(f"leaver ({server}) is DELETED: It was deleted at ")
    assert "by demo, request req-" in told


def test_a_server_without_a_host_is_explained_by_a_table(system: Running) -> None:
    with system.client("chronova-admin") as client:
        huge = {"name": "huge", "id": "huge", "vcpus": 100_000_000, "ram": 512, "disk": 1}
        client.post("/compute/v2.1/flavors", json={"flavor": huge})
        image = client.get("/image/v2/images").json()["images"][0]["id"]
        body = {"name": "homeless", "flavorRef": "huge", "imageRef": image, "networks": "none"}
        server = client.post("/compute/v2.1/servers", json={"server": body}).json()["server"]["id"]
        path = f"/compute/v2.1/servers/{server}"
        until(lambda: client.get(path).json()["server"]["status"] == "ERROR", "no host")
    told = output_of(system, "explain", "homeless")
    assert "Every host was dropped" in told
    assert all(any(host in line and "100000000" in line for line in told.splitlines()) for host in ("host-1", "host-2"))
    assert "{" not in told


def test_readers_may_go_away_and_people_may_interrupt(system: Running) -> None:
    # A test run in the background of a shell hands down that interrupts are ignored.
    heard = ["env", "--default-signal=INT"]
    command = [*heard, sys.executable, "-P", "-m", "cli.main", "events", "--follow", "--data", str(system.data)]
    for end in ("read no more", "interrupt"):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            if end == "interrupt":
                process.send_signal(signal.SIGINT)
            else:
                process.stdout.close()
                with system.client() as client:
                    system.create_server(client, "news")
            try:
                process.wait(60)
            finally:
                process.kill()
            assert process.stderr.read() == ""
            assert process.returncode == (130 if end == "interrupt" else 1)


def test_a_history_is_followed_while_it_happens(system: Running) -> None:
    heard = ["env", "--default-signal=INT"]
    words = ["history", "cam-slow-snapshot", "--follow", "--data", str(system.data)]
    with system.client() as client:
        server = system.create_server(client, "cam-slow-snapshot")
        path = f"/compute/v2.1/servers/{server}"
        with subprocess.Popen(
            [*heard, sys.executable, "-P", "-m", "cli.main", *words], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                assert "Nothing is in progress" in process.stdout.readline()
                client.post(f"{path}/action", json={"createImage": {"name": "still"}})
                seen = [process.stdout.readline().split(maxsplit=2)]
                while seen[-1][1] != "create-image" or len(seen) == 1:
                    seen.append(process.stdout.readline().split(maxsplit=2))
                    assert len(seen[-1]) == 3
                assert (seen[0][1], seen[-1][2].startswith("done in ")) == ("create-image", True)
                snapshot = [what for _, step, what in seen if step == "snapshot"]
                assert "copy disk, " in snapshot[1]
                assert "done in " in snapshot[-1]
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 130
            finally:
                process.kill()
    assert output_of(system, "history", "cam-slow-snapshot", "--until-done") == "Nothing is in progress.\n"


class Cutting(httpx.BaseTransport):
    """A line to the API that breaks after the first event of every stream."""

    def __init__(self, line: httpx.BaseTransport) -> None:
        self.line = line

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.line.handle_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=CutAfterAnEvent(answer))


PATIENCE = 4  # times that a stream says it is alive


class CutAfterAnEvent(httpx.SyncByteStream):
    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer

    def __iter__(self) -> Iterator[bytes]:
        told = b""
        for piece in self.answer.iter_raw():
            told += piece
            if event := re.search(rb"\ndata: .*\n\n", told):
                yield told[: event.end()]
                raise httpx.ReadError("cut")
            assert told.count(b": alive") < PATIENCE, "no event comes any more"

    def close(self) -> None:
        self.answer.close()


def test_a_line_that_breaks_at_every_event_loses_and_doubles_nothing(
    system: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PAUSE_SECONDS", 0.0)
    with connect(system.data) as straight:
        server_id = straight.server_id("web")
        events = straight.get("/v1/events", server=server_id, limit=500)["events"]
        with httpx.Client(
            base_url=straight.http.base_url, headers=straight.http.headers, transport=Cutting(httpx.HTTPTransport())
        ) as cutting:
            followed = follow.events_after(System(cutting), 0, server_id)
            assert [next(followed) for _ in events] == events
    assert len({event["position"] for event in events}) < len(events)


def test_nothing_is_stuck(system: Running) -> None:
    assert output_of(system, "stuck", "list") == "nothing is stuck\n"
    refused = chronova("stuck", "retry", "web", data=system.data)
    assert refused.returncode == 1
    assert "stuck list" in refused.stderr


def test_replay_and_audit_prove_a_running_system(system: Running) -> None:
    assert "equals the fold" in output_of(system, "replay", "--verify")
    assert "all holds" in output_of(system, "audit", "verify")


def test_an_unknown_server_is_one_line(system: Running) -> None:
    missing = chronova("history", "nobody", data=system.data)
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1


@pytest.mark.parametrize("form", ["mermaid", "svg", "matrix", "json"])
def test_the_machine_needs_nothing_running(form: str, tmp_path: Path) -> None:
    shown = chronova("machine", "--format", form, data=tmp_path / "none")
    assert shown.returncode == 0
    assert not (tmp_path / "none").exists()
    if form == "json":
        assert {"command", "vm_state", "task_state", "accepted", "task_state_after"} <= set(
            json.loads(shown.stdout)["cells"][0]
        )


def test_wrong_usage_is_exit_code_2_and_nothing_there_is_1(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("host = 3\nhsts = 2\n")
    assert chronova("up", "--hosts", "none").returncode == 2
    assert chronova("dance").returncode == 2
    misspelt = chronova("up", "--config", config, data=tmp_path / "data")
    assert misspelt.returncode == 2
    assert "hsts" in misspelt.stderr
    assert chronova("api", data=tmp_path / "data").returncode == 2
    for command in (["history", "web"], ["events"], ["audit", "verify"], ["replay"], ["stuck", "list"]):
        nothing = chronova(*command, data=tmp_path / "nothing")
        assert nothing.returncode == 1, command
        assert nothing.stderr.startswith("chronova: ")


def _cut(lines: list[bytes], into: Path, count: int) -> None:
    """An archive without its end, whose trailer was made to fit."""
    kept = lines[: count + 1]
    trailer = {"count": count, "first": 1, "last": count, "sha256": sha256(b"".join(kept)).hexdigest()}
    into.write_bytes(b"".join(kept) + json.dumps(trailer, separators=(",", ":")).encode() + b"\n")


def test_garbage_is_not_restored_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"\x00\xff not a log\n")
    for command in ("import", "restore", "verify"):
        done = chronova("audit", command, tmp_path / "garbage", data=tmp_path / "new")
        assert "is no chronova log" in done.stderr
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert not (tmp_path / "new").exists()


def test_a_log_goes_out_of_one_directory_and_into_another(tmp_path: Path) -> None:
    source, target, file = tmp_path / "source", tmp_path / "target", tmp_path / "log.jsonl"
    old = tmp_path / "old.db"
    with running(source) as system, system.client() as client:
        with closing(sqlite3.connect(source / "read-models.db")) as live, closing(sqlite3.connect(old)) as copy:
            live.backup(copy)
        server = system.create_server(client, "traveller")
    caught_up = chronova("replay", "--verify", data=source)
    assert caught_up.returncode == 0, caught_up.stderr
    behind = chronova("replay", "--verify", "--database", f"sqlite:///{old}", data=source)
    assert behind.returncode == 1
    assert re.search(r"chronova: read model at \d+, log at \d+: ", behind.stderr), behind.stderr
    assert chronova("audit", "export", file, data=source).returncode == 0
    assert chronova("audit", "verify", file, data=source).returncode == 0
    assert chronova("replay", data=source).returncode == 0
    assert chronova("replay", "--verify", data=source).returncode == 0
    kept = chronova("audit", "verify", source / "archive", data=source)
    assert "the file ends where the log in" in kept.stdout, kept.stderr
    restored = chronova("audit", "restore", source / "archive", data=target)
    assert restored.returncode == 0, restored.stderr
    assert "bring keys/, passwords.json, agents/, images/, volumes/ of the old data directory" in restored.stdout
    assert chronova("audit", "import", file, data=target).returncode == 1
    assert "all holds" in chronova("audit", "verify", data=target).stdout
    with running(target) as system, system.client("chronova-admin") as client:
        assert client.get(f"/v1/servers/{server}").json()["server"]["name"] == "traveller"
    lines = file.read_bytes().splitlines(keepends=True)
    assert file.stat().st_mode & 0o077 == 0
    assert chronova("audit", "export", file, data=source).returncode == 2
    assert chronova("audit", "export", file, "--force", data=source).returncode == 0
    _cut(lines, tmp_path / "cut.jsonl", 20)
    against = chronova("audit", "verify", tmp_path / "cut.jsonl", data=source)
    assert "the file ends at 20, the log" in against.stdout, against.stderr
    alone = chronova("audit", "verify", tmp_path / "cut.jsonl", data=tmp_path / "nothing")
    assert "whole up to position 20; nothing anchors its end" in alone.stdout, alone.stderr
    file.write_bytes(b"".join(lines).replace(b"traveller", b"trave11er", 1))
    broken = chronova("audit", "verify", file, data=source)
    assert broken.returncode == 1
    assert "position" in broken.stderr
