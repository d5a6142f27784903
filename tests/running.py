"""`chronova up` as its users run it: a process of its own, driven through its options, its ready-file and its APIs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

READY_SECONDS = 120.0
WAIT_SECONDS = 60.0


def chronova(*words: object, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    command = [sys.executable, "-P", "-m", "cli.main", *map(str, words)]
    if data is not None:
        command += ["--data", str(data)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def until(holds: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        value = holds()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Running:
    """A started system. `ready` is its ready-file, read anew at every use."""

    def __init__(self, process: subprocess.Popen[str], data: Path, ready_file: Path) -> None:
        self.process = process
        self.data = data
        self._ready_file = ready_file

    @property
    def ready(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._ready_file.read_text())
        return content

    @property
    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = self.ready["pids"]
        return pids

    @contextmanager
    def client(self, cloud: str = "chronova") -> Iterator[httpx.Client]:
        """An authenticated client of every API."""
        auth = yaml.safe_load(Path(self.ready["clouds_yaml"]).read_text())["clouds"][cloud]["auth"]
        domain = {"id": "default"}
        user = {"name": auth["username"], "password": auth["password"], "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": auth["project_name"], "domain": domain}},
            }
        }
        with httpx.Client(base_url=self.ready["base_url"], timeout=WAIT_SECONDS) as client:
            token = client.post("/identity/v3/auth/tokens", json=body).headers["X-Subject-Token"]
            client.headers.update({"X-Auth-Token": token, "X-OpenStack-Nova-API-Version": "2.96"})
            yield client

    def wait_for_hosts(self) -> None:
        """Until every host has registered; on a busy machine `up` is ready before that."""
        wanted = set(self.ready["hosts"])
        with self.client("chronova-admin") as client:

            def missing() -> set[str]:
                return wanted - {host["name"] for host in client.get("/v1/hosts").json()["hosts"]}

            until(lambda: not missing(), "every host has registered", READY_SECONDS)

    def create_server(self, client: httpx.Client, name: str) -> str:
        """A server that became ACTIVE; its id."""
        image = client.get("/image/v2/images").json()["images"][0]["id"]
        body = {"name": name, "flavorRef": "42", "imageRef": image, "networks": "auto"}
        answer = client.post("/compute/v2.1/servers", json={"server": body})
        assert answer.status_code == 202, answer.text
        server_id: str = answer.json()["server"]["id"]
        until(lambda: self.status(client, server_id) == "ACTIVE", f"{name} is ACTIVE")
        return server_id

    def status(self, client: httpx.Client, server_id: str) -> str:
        server = client.get(f"/compute/v2.1/servers/{server_id}").json()["server"]
        assert server["status"] != "ERROR", server.get("fault")
        return "busy" if server["OS-EXT-STS:task_state"] else str(server["status"])

    def kill(self, role: str) -> int:
        """kill -9 one process; returns after a new one took its place and is told in the ready-file."""
        old = self.pids[role]
        os.kill(old, signal.SIGKILL)
        return int(until(lambda: self.pids[role] if self.pids[role] != old else 0, f"a new {role}"))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running(data: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Running]:
    """A system on the simulated driver with two hosts, unless the options say otherwise."""
    ready_file = data.with_name(f"{data.name}-ready.json")
    ready_file.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "cli.main", "up", "--data", str(data), "--ready-file", str(ready_file)]
    command += ["--listen", "127.0.0.1:0", "--hosts", "2", "--driver", "simulated", *options]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | (env or {}),
    )
    try:
        until(lambda: ready_file.exists() or process.poll() is not None, "ready", READY_SECONDS)
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        system = Running(process, data, ready_file)
        system.wait_for_hosts()
        yield system
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)
