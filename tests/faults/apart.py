"""The roles as processes of their own, as on several machines: `Deployment`'s face on processes that the test restarts.

Nothing supervises them: what is killed stays dead until the test starts it again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from cli import keys, rundir
from eventlog.nats_config import NatsUser, agent_user
from eventlog.nats_server import EmbeddedNats
from tests.faults.deployment import POLL_SECONDS, PROGRAM, START_SECONDS, STOP_SECONDS, Deployment
from tests.ports import free_address

HOST = "host-1"
ROLES = ("projector", "conductor", "api", "agent")


class Apart(Deployment):
    """One NATS and one process of each role on the simulated driver with one host."""

    def __init__(self, directory: Path, nats: EmbeddedNats, address: str) -> None:
        super().__init__(directory)
        self._logs = directory
        options = {
            "api": ["--listen", address, "--driver", "simulated"],
            "agent": ["--host", HOST, "--driver", "simulated"],
        }
        common = ["--data", str(self.data), "--nats", nats.url]
        self._accounts = {role: _account(self.data, role) for role in ROLES}
        self._commands = {role: [*PROGRAM, role, *common, *options.get(role, [])] for role in ROLES}
        self._nats, self._address = nats, address
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> float:
        """Start all and wait until they make a system; how many seconds that took."""
        begun = time.monotonic()
        for role in ROLES:
            self._start(role)
            while role == "projector" and not (self.data / "read-models.db").exists():
                assert time.monotonic() - begun < START_SECONDS, role
                time.sleep(POLL_SECONDS)
        while not self._answers():
            assert time.monotonic() - begun < START_SECONDS, self._words("api")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - begun

    def kill(self, role: str) -> int:
        pid = super().kill(role)
        self._processes[role].wait(STOP_SECONDS)
        return pid

    async def back(self, role: str, killed: int) -> None:
        """Start it again, by hand, and wait until it serves where that can be asked."""
        await asyncio.to_thread(self._processes[role].wait, STOP_SECONDS)
        self._start(role)
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(self._answers):
                await asyncio.sleep(POLL_SECONDS)

    def cleanup(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, role: str) -> None:
        with (self._logs / f"{role}.log").open("ab") as log:
            user = self._accounts[role]
            self._processes[role] = subprocess.Popen(
                self._commands[role],
                env=os.environ | {"CHRONOVA_NATS_USER": user.name, "CHRONOVA_NATS_PASSWORD": user.password},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._write_note()

    def _write_note(self) -> None:
        """What `chronova up` would note, for the commands of an operator."""
        pids = {"supervisor": os.getpid(), "nats-server": self._nats.pid} | {
            role: one.pid for role, one in self._processes.items()
        }
        note = {
            "base_url": f"http://{self._address}",
            "nats": [self._nats.url],
            "database": None,
            "pids": pids,
            "started": {role: rundir.started_at(pid) for role, pid in pids.items()},
        }
        rundir.write_json(rundir.note_path(self.data), note)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{self._address}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def _words(self, role: str) -> str:
        return (self._logs / f"{role}.log").read_text()[-2000:]


def _account(data: Path, role: str) -> NatsUser:
    """Who a role is on NATS, as `chronova up` has it."""
    if role == "agent":
        return agent_user(HOST, keys.secret(data, f"nats-agent-{HOST}"))
    return NatsUser("control", keys.secret(data, "nats-control"))


@contextmanager
def running_apart(directory: Path) -> Iterator[Apart]:
    address = free_address()
    accounts = [_account(directory / "data", role) for role in ("api", "agent")]
    with EmbeddedNats.start(directory / "nats-server", sync_interval=None, auth=accounts) as nats:
        apart = Apart(directory, nats, address)
        try:
            apart.start()
            yield apart
        finally:
            apart.cleanup()
