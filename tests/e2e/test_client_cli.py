"""The real `openstack` client against a running system, as a user types it: names and ids, one process for all of it.

The client reads its commands from standard input, so that it starts once. What it answers is told in JSON where it can
be; that an action has ended is seen in the server's history.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import Running, running, until

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMdDfumvTJleEpgohqYY5dq5xicytjjNcPMO3x54cKzp me@here"
USER_DATA = "#!/bin/sh\necho hello\n"


class Client:
    """An `openstack` that waits for commands."""

    def __init__(self, system: Running, folder: Path) -> None:
        options = {"OS_CLIENT_CONFIG_FILE": system.ready["clouds_yaml"], "OS_CLOUD": "chronova"}
        options["PYTHONUNBUFFERED"] = "1"
        self._said, self._complained = folder / "said", folder / "complained"
        with self._said.open("w") as said, self._complained.open("w") as complained:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("openstack"))],  # words here would be taken for commands
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=complained,
                text=True,
                env=os.environ | options,
            )
        self._seen = 0
        self._forgiven = 0

    def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self._seen = len(self._said.read_text())
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    @property
    def said(self) -> str:
        """What the last command has printed so far. It may have complained of nothing."""
        assert not self._complaint, self._complaint
        return self._said.read_text()[self._seen :]

    @property
    def _complaint(self) -> str:
        return self._complained.read_text()[self._forgiven :]

    def ask(self, command: str) -> Any:
        """The answer of a command that shows something."""
        self.do(f"{command} -f json")

        def answer() -> list[Any]:
            text = self.said.lstrip()
            try:
                return [json.JSONDecoder().raw_decode(text)[0]]
            except ValueError:
                return []

        return until(answer, command)[0]

    def text(self, command: str) -> str:
        self.do(command)
        return str(until(lambda: self.said.strip() or None, command))

    def refused(self, command: str) -> str:
        self.do(command)
        complaint = until(lambda: self._complaint if self._complaint.endswith("\n") else "", command)
        self._forgiven += len(complaint)
        return str(complaint)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("client") / "data") as system:
        yield system


@pytest.fixture
def api(system: Running) -> Iterator[httpx.Client]:
    with system.client() as client:
        yield client


@pytest.fixture
def openstack(system: Running, tmp_path: Path) -> Iterator[Client]:
    client = Client(system, tmp_path)
    try:
        yield client
    finally:
        client.end()


def test_a_server_s_life_as_it_is_typed(openstack: Client, api: httpx.Client, system: Running, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(KEY)
    (tmp_path / "user-data").write_text(USER_DATA)
    (tmp_path / "disk").write_bytes(b"a disk" * 100)

    made = openstack.ask(f"image create --file {tmp_path}/disk --disk-format raw --container-format bare mine")
    assert made["name"] == "mine"
    assert {one["Name"]: one["Status"] for one in openstack.ask("image list")} == {"tiny": "active", "mine": "active"}
    assert "m1.nano" in {one["Name"] for one in openstack.ask("flavor list")}
    assert "private" in {one["Name"] for one in openstack.ask("network list")}
    assert openstack.ask(f"keypair create --public-key {tmp_path}/key.pub mine")["name"] == "mine"

    given = f"--key-name mine --property role=db --user-data {tmp_path}/user-data"
    first = openstack.ask(f"server create --image tiny --flavor m1.nano --network private {given} --wait first")
    assert (first["status"], first["key_name"], first["properties"]) == ("ACTIVE", "mine", {"role": "db"})
    assert list(first["addresses"]) == ["private"]
    id_ = first["id"]
    with system.client("chronova-admin") as admin:
        kept = admin.get(f"/compute/v2.1/servers/{id_}").json()["server"]["OS-EXT-SRV-ATTR:user_data"]
    assert base64.b64decode(kept).decode() == USER_DATA
    second = openstack.ask(f"server create --image {made['id']} --flavor 42 --nic none --wait second")
    assert {one["Name"]: one["ID"] for one in openstack.ask("server list")} == {"first": id_, "second": second["id"]}
    assert openstack.ask("server show first")["id"] == openstack.ask(f"server show {id_}")["id"] == id_

    def actions() -> list[str]:
        found = api.get(f"/compute/v2.1/servers/{id_}/os-instance-actions").json()["instanceActions"]
        return [one["action"] for one in reversed(found)]

    def act(command: str, action: str, status: str) -> None:
        wanted = [*actions(), action]
        openstack.do(command)
        until(lambda: openstack.said is not None and actions() == wanted and system.status(api, id_) == status, command)

    act("server stop first", "stop", "SHUTOFF")
    act(f"server start {id_}", "start", "ACTIVE")
    act("server reboot --wait first", "reboot", "ACTIVE")
    act(f"server reboot --hard --wait {id_}", "reboot", "ACTIVE")
    act(f"server pause {id_}", "pause", "PAUSED")
    act("server unpause first", "unpause", "ACTIVE")
    act("server suspend first", "suspend", "SUSPENDED")
    act(f"server resume {id_}", "resume", "ACTIVE")
    act("server lock first", "lock", "ACTIVE")
    assert "is locked" in openstack.refused("server stop first")
    act(f"server unlock {id_}", "unlock", "ACTIVE")

    events = openstack.ask("server event list first")
    assert [one["Action"] for one in reversed(events)] == actions()
    stop = next(one for one in events if one["Action"] == "stop")
    for name in ("first", id_):
        event = openstack.ask(f"server event show {name} {stop['Request ID']}")
        assert (event["action"], event["events"][0]["event"]) == ("stop", "compute_stop_instance")
        assert event["events"][0]["result"] == "Success"
    assert openstack.text("console log show first")

    openstack.do(f"server delete --wait first {second['id']}")
    assert openstack.ask("server list") == []
    gone = openstack.ask(f"server event list {id_}")
    assert gone[0]["Action"] == "delete"
