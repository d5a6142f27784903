"""Three nats-servers that are one cluster, on loopback: for what happens when one of them is lost."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.nats_server import find_nats_server
from tests.ports import free_ports

START_SECONDS = 60.0
ATTEMPTS = 5


class Node:
    """One server of the cluster. Its name is how JetStream calls it."""

    def __init__(self, directory: Path, name: str, ports: list[int], routes: list[int]) -> None:
        self.name = name
        self._client, route, self._monitor = ports
        self.url = f"nats://127.0.0.1:{self._client}"
        self._config = directory / f"{name}.conf"
        self._log = directory / f"{name}.log"
        urls = ", ".join(f'"nats://127.0.0.1:{one}"' for one in routes)
        self._config.write_text(
            f"server_name: {name}\nlisten: 127.0.0.1:{self._client}\nhttp: 127.0.0.1:{self._monitor}\n"
            f'jetstream {{ store_dir: "{directory / name}", sync_interval: always }}\n'
            f"cluster {{ name: trio, listen: 127.0.0.1:{route}, routes: [{urls}] }}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(find_nats_server()), "-c", str(self._config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def answers(self) -> bool:
        """Its JetStream runs; what the others have may be on its way. Raises RuntimeError if it has ended."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self._log.read_text(errors='replace')[-500:]}")
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._monitor}/healthz?js-enabled-only=true", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < until, f"{self.name} does not answer: {self._log.read_text()[-1000:]}"
            time.sleep(0.05)


@contextmanager
def cluster(directory: Path) -> Iterator[list[Node]]:
    """Three servers that run; they find each other in a moment."""
    nodes: list[Node] = []
    try:
        for attempt in range(ATTEMPTS):
            place = directory / f"attempt-{attempt}"
            place.mkdir(parents=True)
            ports = free_ports(9)
            routes = ports[1::3]
            nodes = [Node(place, f"n{one + 1}", ports[3 * one : 3 * one + 3], routes) for one in range(3)]
            for node in nodes:
                node.start()
            try:
                for node in nodes:
                    node.wait()
                break
            except RuntimeError:  # somebody took a port in between
                for node in nodes:
                    node.kill()
        else:
            raise AssertionError(f"no cluster came up in {ATTEMPTS} attempts")
        yield nodes
    finally:
        for node in nodes:
            node.kill()
