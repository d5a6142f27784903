"""`chronova up`: starts, survives the death of any of its processes, ends in order."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from cli import rundir
from tests.running import chronova, is_alive, running, until

pytestmark = pytest.mark.xdist_group("chronova up")

PLANE = {"supervisor", "nats-server", "control", "projector", "archive"}


def test_a_start_tells_what_runs_and_a_stop_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as system:
        ready = system.ready
        pids = system.pids
        assert set(pids) == PLANE | {"agents"}
        assert ready["hosts"] == ["host-1", "host-2"]
        assert all(is_alive(pid) for pid in pids.values())
        with system.client("chronova-admin") as client:
            assert {host["name"] for host in client.get("/v1/hosts").json()["hosts"]} == {"host-1", "host-2"}
        second = chronova("up", data=data)
        assert second.returncode == 1
        assert str(pids["supervisor"]) in second.stderr
        begun = time.monotonic()
        assert system.stop() == 0
        assert time.monotonic() - begun < 45  # of a loaded machine, where a start takes as long
        until(lambda: not any(map(is_alive, pids.values())), "every process is gone")
    assert not [path for path in (data / "keys").iterdir() if path.stat().st_mode & 0o077 and path.suffix != ".pub"]
    assert rundir.running(data) is None


def test_whatever_dies_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    with running(tmp_path / "data") as system, system.client() as client:
        address = system.ready["base_url"]
        first = system.create_server(client, "first")
        for role in ("control", "projector", "archive", "agents", "nats-server"):
            system.kill(role)
            until(lambda: client.get("/readyz").status_code == 200, f"the API answers after the death of {role}")
            assert system.status(client, first) == "ACTIVE"
            system.create_server(client, f"after-{role}")
        assert system.ready["base_url"] == address
        assert len(client.get("/compute/v2.1/servers").json()["servers"]) == 6


def test_while_the_projector_stands_still_commands_go_on_and_nobody_comes_in_who_may_not(tmp_path: Path) -> None:
    with running(tmp_path / "data") as system, system.client() as demo, system.client("chronova-admin") as admin:
        server = system.create_server(demo, "first")
        path = f"/compute/v2.1/servers/{server}"
        os.kill(system.pids["projector"], signal.SIGSTOP)
        assert demo.post(f"{path}/action", json={"lock": None}).status_code == 202
        assert demo.get("/compute/v2.1/servers/detail").json()["servers"][0]["id"] == server  # a list may be older
        assert demo.get(path, headers={"X-OpenStack-Nova-API-Version": "2.96"}).json()["server"]["locked"]
        (user,) = admin.get("/identity/v3/users?name=demo").json()["users"]
        answer = admin.patch(f"/identity/v3/users/{user['id']}", json={"user": {"enabled": False}})
        assert answer.status_code == 200
        until(lambda: demo.get(path).status_code == 401, "the user is out")
        answer = admin.patch(f"/identity/v3/users/{user['id']}", json={"user": {"enabled": True}})
        assert answer.status_code == 200
        os.kill(system.pids["projector"], signal.SIGCONT)

        def shown() -> bool:
            answer = demo.get(f"/compute/v2.1/servers/{server}/os-instance-actions")
            return answer.status_code == 200 and "lock" in answer.text

        until(shown, "what was done is shown")


def test_a_killed_supervisor_takes_everything_along_and_the_next_start_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as system:
        with system.client() as client:
            server = system.create_server(client, "survivor")
        pids = system.pids
        os.kill(pids["supervisor"], signal.SIGKILL)
        system.process.wait(60)
    with running(data, "--agent-per-host") as system, system.client() as client:
        assert not any(map(is_alive, pids.values()))
        assert set(system.pids) == PLANE | {"agent-host-1", "agent-host-2"}
        assert system.status(client, server) == "ACTIVE"
        answer = client.post(f"/compute/v2.1/servers/{server}/action", json={"os-stop": None})
        assert answer.status_code == 202
        until(lambda: system.status(client, server) == "SHUTOFF", "it can be stopped")


def test_a_role_that_never_gets_ready_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[driver]\nfailures = 3\n")  # which only the driver knows of
    ended = chronova(
        *("up", "--listen", "127.0.0.1:0", "--driver", "simulated", "--config", tmp_path / "config.toml"),
        data=tmp_path / "data",
    )
    assert ended.returncode == 1
    assert "options of the simulated driver" in ended.stderr


def test_options_come_from_the_environment_and_a_file_too(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('hosts = 7\n[api]\nregion = "Elsewhere"\n[driver]\nlatency = {spawn = 0.2}\n')
    data = tmp_path / "data"
    with running(data, "--config", str(config), env={"CHRONOVA_AGENT_PER_HOST": "1"}) as system:
        # The option on the command line (two hosts) wins over the file.
        assert set(system.pids) == PLANE | {"agent-host-1", "agent-host-2"}
        assert "Elsewhere" in (data / "clouds.yaml").read_text()
        assert json.loads((data / "run" / "up.json").read_text())["hosts"] == ["host-1", "host-2"]
