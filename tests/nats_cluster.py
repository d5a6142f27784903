"""Three nats-servers that are one cluster, on loopback: for what happens when one of them is lost."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.nats_server import find_nats_server
from tests.ports import free_ports

START_SECONDS = 60.0
JOIN_SECONDS = 15.0
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
        self._must_run()
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._monitor}/healthz?js-enabled-only=true", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def leads_all(self) -> bool:
        """It leads the cluster and hears of both others. Raises RuntimeError if it has ended."""
        self._must_run()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/jsz", timeout=5) as answer:
                others = json.load(answer).get("meta_cluster", {}).get("replicas") or []
        except OSError:
            return False
        return sum(not one.get("offline") for one in others) == 2

    def _must_run(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self._log.read_text(errors='replace')[-500:]}")

    def wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < until, f"{self.name} does not answer: {self._log.read_text()[-1000:]}"
            time.sleep(0.05)


def _join(nodes: list[Node]) -> None:
    """Wait until they are a cluster. Raises RuntimeError if one has ended, or they do not find each other.

    Seen in one start of ten: the cluster that elects its leader has two members, and it stays so for a minute and
    more. No stream gets three replicas meanwhile.
    """
    until = time.monotonic() + JOIN_SECONDS
    while not any(node.leads_all() for node in nodes):
        if time.monotonic() > until:
            raise RuntimeError("the servers do not find each other")
        time.sleep(0.05)


@contextmanager
def cluster(directory: Path) -> Iterator[list[Node]]:
    """Three servers that have found each other."""
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
                _join(nodes)
                break
            except RuntimeError:  # somebody took a port in between, or they missed each other
                for node in nodes:
                    node.kill()
        else:
            raise AssertionError(f"no cluster came up in {ATTEMPTS} attempts")
        yield nodes
    finally:
        for node in nodes:
            node.kill()
