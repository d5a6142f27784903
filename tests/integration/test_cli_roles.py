"""The roles as processes of their own on one NATS, as on several machines."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from cli import data_dir
from eventlog.nats_server import EmbeddedNats
from tests.ports import free_address
from tests.running import READY_SECONDS, Running, until

pytestmark = pytest.mark.xdist_group("chronova up")


@pytest.mark.parametrize("nats_ends", ["later", "first"])
def test_the_roles_make_a_system_and_end_when_told_to(nats_ends: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    address = free_address()
    with EmbeddedNats.start(tmp_path / "nats", sync_interval=None) as nats:
        processes: list[subprocess.Popen[str]] = []

        def start(role: str, *options: str) -> None:
            command = [sys.executable, "-P", "-m", "cli.main", role, "--data", str(data), "--nats", nats.url, *options]
            with (tmp_path / f"{role}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True))

        try:
            start("projector")
            until((data / "read-models.db").exists, "the read models are there", READY_SECONDS)
            start("conductor")
            start("archive", "--archive", str(tmp_path / "copy"))
            start("api", "--listen", address, "--driver", "simulated")
            start("agent", "--host", "rack-7", "--driver", "simulated")
            ready = tmp_path / "ready.json"
            ready.write_text(
                json.dumps({"base_url": f"http://{address}", "clouds_yaml": str(data / "clouds.yaml"), "pids": {}})
            )
            system = Running(processes[0], data, ready)
            until(lambda: _answers(address), "the API answers", READY_SECONDS)
            with system.client("chronova-admin") as admin:
                until(lambda: "rack-7" in admin.get("/v1/hosts").text, "the host has registered")
            with system.client() as client:
                system.create_server(client, "apart")
            until(lambda: any((tmp_path / "copy").glob("*.open")), "the log is archived")
            if nats_ends == "first":  # as at a machine's end
                nats.stop()
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            codes = [process.wait(60) for process in processes]
        said = {log.name: log.read_text()[-500:] for log in tmp_path.glob("*.log")}
        assert codes == [0, 0, 0, 0, 0], said


def test_a_projector_that_waits_for_a_rebuild_of_another_ends_when_told_to(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "projector.log"
    data_dir.claim(data)
    with (
        EmbeddedNats.start(tmp_path / "nats", sync_interval=None) as nats,
        (data / "read-models.db.lock").open("wb") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-P", "-m", "cli.main", "projector", "--data", str(data), "--nats", nats.url]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            until(lambda: b"building the read models" in log.read_bytes(), "it waits", READY_SECONDS)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
