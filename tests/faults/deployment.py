"""A real `chronova up` in a directory, to be killed: its processes, and its commands.

Whatever a test does to it, `running` ends every process that it started, each by its pid, before it returns.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from cli import rundir
from tests.ports import free_address

START_SECONDS = 120.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
COMMAND_SECONDS = 120.0


class Deployment:
    """One data directory and, while it runs, the processes on it. A second start keeps the address of the first."""

    def __init__(self, directory: Path, options: tuple[str, ...] = ()) -> None:
        self.data = directory / "data"
        self.output = directory / "up.log"
        self._ready = directory / "ready.json"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._listen = free_address()  # nobody takes it while a killed one is started again
        self._seen: dict[int, int] = {}  # pid -> when it started, of every process ever noted

    def start(self) -> float:
        """Start and wait until it is ready; how many seconds that took."""
        begun = time.monotonic()
        self._process = spawn(
            self.data, self.output, "--listen", self._listen, "--ready-file", self._ready, *self._options
        )
        while not self._ready.exists():
            assert self._process.poll() is None, self.output.read_text()
            assert time.monotonic() - begun < START_SECONDS, self.output.read_text()
            time.sleep(POLL_SECONDS)
        return time.monotonic() - begun

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(STOP_SECONDS)

    @property
    def note(self) -> dict[str, Any]:
        note = rundir.read_note(self.data)
        assert note is not None, "nothing was started"
        self._seen.update({pid: note["started"][role] for role, pid in note["pids"].items()})
        return note

    @property
    def base_url(self) -> str:
        return str(self.note["base_url"])

    def pid(self, role: str) -> int:
        return int(self.note["pids"][role])

    def kill(self, role: str) -> int:
        """kill -9, now; the pid that was. The supervisor starts it again by itself, all but the supervisor itself."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def back(self, role: str, killed: int) -> None:
        """Wait until another process does what the killed one did; a killed supervisor is started by hand."""
        if role == "supervisor":
            assert self._process is not None
            self._process.wait(STOP_SECONDS)
            self._ready.unlink()
            await asyncio.to_thread(self.start)
            return
        async with asyncio.timeout(START_SECONDS):
            while self.pid(role) == killed:
                await asyncio.sleep(POLL_SECONDS)

    def chronova(self, *words: object) -> subprocess.Popen[bytes]:
        """A command of the user's on this directory."""
        return subprocess.Popen(
            [*PROGRAM, *map(str, words), "--data", str(self.data)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def cleanup(self) -> None:
        """End everything that may still run."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if rundir.read_note(self.data) is not None:
            assert self.note
        for pid, started in self._seen.items():
            if rundir.alive(pid, started):
                os.kill(pid, signal.SIGKILL)


PROGRAM = (sys.executable, "-P", "-m", "cli.main")


def spawn(
    data: Path, output: Path, *options: object, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """`chronova up` on the simulated driver with two hosts."""
    with output.open("ab") as log:
        return subprocess.Popen(
            [*PROGRAM, "up", "--driver", "simulated", "--hosts", "2", "--data", str(data), *map(str, options)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | dict(environment or {}),
            start_new_session=True,
        )


@contextmanager
def running(directory: Path, *options: str) -> Iterator[Deployment]:
    deployment = Deployment(directory, options)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.cleanup()


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit code of a command, and all that it wrote."""
    try:
        output, _ = process.communicate(timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, output.decode()


def credentials(deployment: Deployment, cloud: str) -> dict[str, Any]:
    """The body of a request for a token, from the clouds.yaml that its users have."""
    auth = yaml.safe_load((deployment.data / "clouds.yaml").read_text())["clouds"][cloud]["auth"]
    domain = {"id": "default"}
    user = {"name": auth["username"], "password": auth["password"], "domain": domain}
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": auth["project_name"], "domain": domain}},
        }
    }


def connection(deployment: Deployment) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=deployment.base_url, timeout=60.0)
