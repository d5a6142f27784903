"""A control plane of its own to measure: `chronova up` in a fresh directory, stopped and removed afterwards.

`Target.start` returns when the ready-file is there; leaving it ends the supervisor, which ends the rest. With what the
supervisor wrote it offers what scenarios need: a token, prebuilt requests, the log, and the pids for CPU and memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import yaml

from cli import keys
from cli.bench import http_client, processes
from cli.bench.http_client import Answer, Connection
from cli.errors import Stop

READY_SECONDS = 120.0
END_SECONDS = 40.0
POLL_SECONDS = 0.01
MICROVERSION = "2.96"
CONTROL_USER = "control"


@dataclass
class Target:
    """A running control plane. `seconds_to_ready`: from starting the command to its ready-file."""

    data: Path
    base_url: str
    pids: dict[str, int]
    seconds_to_ready: float
    nats_url: str
    nats_user: str | None
    nats_password: str | None
    token: str = ""
    project_id: str = ""
    flavor_id: str = ""
    image_id: str = ""
    _family: set[int] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        *,
        hosts: int = 2,
        driver: str = "simulated",
        sync: str = "always",
        directory: Path | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> AsyncIterator[Target]:
        """Raises Stop when it does not become ready."""
        data = Path(tempfile.mkdtemp(prefix="chronova-bench-", dir=directory))
        ready, output = data / "ready.json", data / "up.out"
        command = [sys.executable, "-P", "-m", "cli.main", "up", "--data", str(data / "data")]
        command += ["--listen", "127.0.0.1:0", "--hosts", str(hosts), "--driver", driver, "--nats-sync", sync]
        command += ["--ready-file", str(ready)]
        # The user's own settings must not change what is measured, save where nats-server is.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CHRONOVA_")}
        began = perf_counter()
        process = _spawn(command, clean | dict(environment), output)
        try:
            while not ready.exists():
                if process.poll() is not None or perf_counter() - began > READY_SECONDS:
                    raise Stop(f"`chronova up` did not become ready: {_last_lines(output)}")
                await asyncio.sleep(POLL_SECONDS)
            target = cls._from_notes(json.loads(ready.read_text()), perf_counter() - began)
            await target._log_in()
            yield target
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(data, ignore_errors=True)

    @classmethod
    def _from_notes(cls, ready: dict[str, Any], seconds: float) -> Target:
        data = Path(ready["data"])
        note = json.loads((data / "run" / "up.json").read_text())
        password = keys.secret(data, f"nats-{CONTROL_USER}")
        return cls(data, ready["base_url"], ready["pids"], seconds, note["nats"][0], CONTROL_USER, password)

    async def _log_in(self) -> None:
        clouds = yaml.safe_load((self.data / "clouds.yaml").read_text())["clouds"]
        given = clouds["chronova"]["auth"]
        domain = {"id": "default"}
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": given["username"], "domain": domain, "password": given["password"]}},
        }
        scope = {"project": {"name": given["project_name"], "domain": domain}}
        body = json.dumps({"auth": {"identity": identity, "scope": scope}}).encode()
        place = urlsplit(self.base_url)
        raw = http_client.build("POST", place.netloc, "/identity/v3/auth/tokens", {}, body)
        # The one request whose answer's headers matter.
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(raw)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n"))
        }
        if "x-subject-token" not in headers:
            raise Stop(f"no token was given: {head.splitlines()[0]}")
        self.token = headers["x-subject-token"]
        flavors = await self.get("/compute/v2.1/flavors?limit=1000")
        self.flavor_id = next(one["id"] for one in flavors["flavors"] if one["name"] == "m1.nano")
        images = await self.get("/image/v2/images")
        self.image_id = images["images"][0]["id"] if images["images"] else ""

    # --- requests ---------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request with this target's token."""
        headers = {"x-auth-token": self.token, "openstack-api-version": f"compute {MICROVERSION}"}
        content = b"" if body is None else json.dumps(body).encode()
        return http_client.build(method, urlsplit(self.base_url).netloc, path, headers, content)

    def action(self, server_id: str, name: str, argument: Any = None) -> bytes:
        return self.request("POST", f"/compute/v2.1/servers/{server_id}/action", {name: argument})

    def new_server(self, name: str) -> bytes:
        """A server without a network, as in the figures of Nova that these are held against."""
        server = {"name": name, "flavorRef": self.flavor_id, "imageRef": self.image_id, "networks": "none"}
        return self.request("POST", "/compute/v2.1/servers", {"server": server})

    async def connect(self, count: int) -> list[Connection]:
        place = urlsplit(self.base_url)
        return [await Connection.connect(place.hostname or "", place.port or 80) for _ in range(count)]

    async def call(self, raw: bytes, expect: int = 200) -> Answer:
        """One request on a connection of its own. Raises Stop unless it is answered as expected."""
        [connection] = await self.connect(1)
        try:
            return checked(await connection.request(raw), expect)
        finally:
            connection.close()

    async def get(self, path: str) -> Any:
        return json.loads((await self.call(self.request("GET", path))).body)

    # --- processes --------------------------------------------------------------------------------------------------

    def count_processes(self) -> None:
        """Look anew which processes belong to it."""
        self._family = processes.family(self.pids.values())

    def cpu_seconds(self) -> float:
        if not self._family:
            self.count_processes()
        return processes.cpu_seconds(self._family)

    def cpu_by_role(self) -> dict[str, float]:
        """Seconds so far of each process that the ready-file names, and of all others together."""
        return {role: processes.cpu_seconds(pids) for role, pids in self._by_role().items()}

    def pss_by_role(self) -> dict[str, int]:
        """Bytes."""
        return {role: processes.pss_bytes(pids) for role, pids in self._by_role().items()}

    def _by_role(self) -> dict[str, set[int]]:
        others = processes.family(self.pids.values()) - set(self.pids.values())
        return {role: {pid} for role, pid in self.pids.items()} | ({"others": others} if others else {})


def checked(answer: Answer, expect: int) -> Answer:
    if answer.status != expect:
        raise Stop(
            f"a request was answered {answer.status}, not {expect}: {answer.body[:500].decode(errors='replace')}"
        )
    return answer


def _spawn(command: list[str], environment: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
    # Whatever ends the benchmark ends what it measures.
    command = ["setpriv", "--pdeathsig", "TERM", "--", *command]
    with output.open("wb") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)


def _last_lines(path: Path) -> str:
    return " | ".join(path.read_text(errors="replace").strip().splitlines()[-3:]) or "it said nothing"
