"""A system with real guests for end-to-end tests: driven through the OpenStack SDK and client, looked at from inside.

`World` is a running `chronova up`; `Guest` is one server of it: what the API says, what its console said, and what a
shell inside it answers through the guest agent. Every wait has a limit and says what it waited for.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import msgspec
import openstack
import pytest

from hypervisor_agent.libvirt.daemon import Daemons
from hypervisor_agent.libvirt.files import HostFiles
from hypervisor_agent.libvirt.machine import can_make_bridges, missing_programs
from hypervisor_agent.libvirt.networks import PREFIX
from tests.running import Running, running, until

# What every module of these tests is marked with.
MARKS = [
    pytest.mark.guest,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}"),
    pytest.mark.xdist_group("guest"),
    # The SDK warns of its own use of itself.
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning"),
]
BOOT_SECONDS = 90.0
SETTLE_SECONDS = 90.0
LEFT_SECONDS = 20.0  # less than it takes until what nobody claims is swept
AGENT_SECONDS = 60  # for one answer of a guest's agent
CLIENT_SECONDS = 180.0
REACHABLE = can_make_bridges()  # without that right guests get QEMU's user network, where nobody reaches them


class World:
    """A running system. `cloud` and `admin` are SDK connections of a member and of the administrator."""

    def __init__(self, system: Running) -> None:
        self.system = system
        self.data = system.data
        self._config = [system.ready["clouds_yaml"]]
        self.cloud = self.connect("chronova")
        self.admin = self.connect("chronova-admin")
        self._hypervisors: dict[str, Any] = {}

    def connect(self, name: str) -> Any:
        config = openstack.config.OpenStackConfig(config_files=self._config, load_envvars=False)
        return openstack.connection.Connection(config=config.get_one(name))

    def close(self) -> None:
        for connection in (self.cloud, self.admin, *self._hypervisors.values()):
            connection.close()

    def client(self, *words: str, cloud: str = "chronova", given: str = "", refused: bool = False) -> str:
        """The real `openstack` client; what it printed. `refused`: it has to fail, and its error is the answer."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("openstack")), "--os-cloud", cloud, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=CLIENT_SECONDS,
            check=False,
            env=os.environ | {"OS_CLIENT_CONFIG_FILE": self._config[0]},
        )
        assert (done.returncode != 0) == refused, f"openstack {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done.stderr if refused else done.stdout

    def create(self, name: str, *, flavor: str = "m1.nano", **fields: Any) -> Guest:
        """A server that is on its way; `Guest.settles` or `Guest.boots` wait for it."""
        image = {} if "block_device_mapping" in fields else {"image_id": self.image_id}
        flavor_id = self.cloud.compute.find_flavor(flavor).id
        server = self.cloud.compute.create_server(
            name=name, flavor_id=flavor_id, **({"networks": "auto"} | image | fields)
        )
        return Guest(self, server.id)

    @property
    def image_id(self) -> str:
        return str(self.cloud.image.find_image("tiny").id)

    # what is on the hosts ------------------------------------------------------------------------------------

    def hypervisor(self, host: str) -> Any:
        """A connection to that host's own libvirtd."""
        if host not in self._hypervisors:
            self._hypervisors[host] = libvirt.open(Daemons(host, HostFiles(self.data / "agents" / host)).uri)
        return self._hypervisors[host]

    def domains(self) -> dict[str, str]:
        """The guests of all hosts: server id to host."""
        hosts = self.system.ready["hosts"]
        return {domain.UUIDString(): host for host in hosts for domain in self.hypervisor(host).listAllDomains()}

    def leftovers(self) -> dict[str, list[str]]:
        """Everything that a server takes and has to give back: on the hosts, in the store and in the APIs."""
        agents = self.data / "agents"
        network = Path("/sys/class/net")
        mine = {f"{PREFIX}{one.id.replace('-', '')[:8]}" for one in self.admin.network.networks()}
        placement = self.admin.placement
        providers = placement.get("/resource_providers").json()["resource_providers"]
        usages = [placement.get(f"/resource_providers/{one['uuid']}/usages").json() for one in providers]
        found = {
            "domains": list(self.domains()),
            "guest folders": [path.name for path in agents.glob("*/guests/*")],
            "bridges": [path.name for path in network.iterdir() if path.name in mine],
            "image files": [path.name for path in (self.data / "images").iterdir() if path.is_file()],
            "volume files": [path.name for path in (self.data / "volumes").rglob("*") if path.is_file()],
            "ports": [port.id for port in self.admin.network.ports()],
            "images": [image.id for image in self.admin.image.images()],
            "volumes": [volume.id for volume in self.admin.block_storage.volumes(all_projects=True)],
            "used": [f"{name}: {amount}" for one in usages for name, amount in one["usages"].items() if amount],
        }
        return {kind: sorted(things) for kind, things in found.items()}

    def left_since(self, before: dict[str, list[str]]) -> dict[str, list[str]]:
        """What is there and was not before, and does not go by itself in a moment.

        Less may be there: a killed system's bridge is used, then removed.
        """
        deadline = time.monotonic() + LEFT_SECONDS
        while True:
            now = self.leftovers()
            left = {kind: new for kind, things in now.items() if (new := sorted(set(things) - set(before[kind])))}
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.2)


class Guest:
    """One server, outside and inside."""

    def __init__(self, world: World, server_id: str) -> None:
        self.world = world
        self.id = server_id
        self._seen = 0

    # outside -------------------------------------------------------------------------------------------------

    @property
    def server(self) -> Any:
        return self.world.cloud.compute.get_server(self.id)

    def settles(self, status: str) -> Any:
        """Wait until nothing is in progress and the server has this status; fails at once when it is in ERROR."""

        def there() -> Any:
            server = self.server
            if server.status == "ERROR" != status:
                raise AssertionError(f"{server.name} is in ERROR: {server.fault}")
            return server if server.status == status and server.task_state is None else None

        return until(there, f"the server is {status}", SETTLE_SECONDS)

    def do(self, action: str, status: str, *arguments: Any, **fields: Any) -> Any:
        """An action of the SDK by its name, such as `stop` (`stop_server`), to its end."""
        getattr(self.world.cloud.compute, action)(self.id, *arguments, **fields)
        return self.settles(status)

    @property
    def address(self) -> str:
        (addresses,) = self.server.addresses.values()
        return str(addresses[0]["addr"])

    def history(self) -> list[tuple[str, str | None]]:
        """Its actions and what went wrong in each, oldest first."""
        actions = list(self.world.cloud.compute.server_actions(self.id))
        return [(one.action, one.message) for one in reversed(actions)]

    def answers(self, seconds: float = SETTLE_SECONDS if REACHABLE else 2.0) -> bool:
        """Whether the guest answers on its address from this host: a refused connection is an answer too."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(2.0)
                try:
                    probe.connect((self.address, 9))
                except ConnectionRefusedError:
                    return True
                except OSError:
                    time.sleep(0.1)
        return False

    def delete(self) -> None:
        self.world.cloud.compute.delete_server(self.id, ignore_missing=True)
        self.world.cloud.compute.wait_for_delete(self.server_or_none, interval=0.2, wait=SETTLE_SECONDS)

    @property
    def server_or_none(self) -> Any:
        return self.world.cloud.compute.find_server(self.id) or openstack.compute.v2.server.Server(id=self.id)

    # inside --------------------------------------------------------------------------------------------------

    @property
    def console(self) -> str:
        return str(self.world.cloud.compute.get_server_console_output(self.id)["output"])

    def says(self, text: str, seconds: float = BOOT_SECONDS) -> str:
        """The next line of the console that has this text; each line is found once."""

        def line() -> str:
            console = self.console
            if len(console) < self._seen:
                self._seen = 0  # a new console: the guest was built anew
            at = console.find(text, self._seen)
            if at < 0 or "\n" not in console[at:]:
                return ""
            self._seen = console.index("\n", at)
            return console[at : self._seen].strip()

        return str(until(line, f"the guest says {text!r}", seconds))

    def boots(self) -> dict[str, str]:
        """Wait until the guest has booted; what it says of itself: uuid, boots, cpus, mem, ip, host, and its disks."""
        words = self.says("CHRONOVA-READY").split()
        said = dict(word.split("=", 1) for word in words if "=" in word)
        assert said["uuid"] == self.id
        return said

    @property
    def host(self) -> str:
        return self.world.domains()[self.id]

    @property
    def domain(self) -> Any:
        return self.world.hypervisor(self.host).lookupByUUIDString(self.id)

    def run(self, line: str, seconds: float = SETTLE_SECONDS) -> str:
        """What a shell line prints inside the guest."""
        arguments = {"path": "/bin/sh", "arg": ["-c", line], "capture-output": True}
        deadline = time.monotonic() + seconds
        while True:
            try:
                pid = self._agent("guest-exec", arguments)["pid"]
                break
            except libvirt.libvirtError:  # the agent comes up a moment after the guest
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

        def ended() -> Any:
            with suppress(libvirt.libvirtError):  # on a loaded machine it may miss the time for one answer
                status = self._agent("guest-exec-status", {"pid": pid})
                return status if status["exited"] else None

        return base64.b64decode(until(ended, line, seconds).get("out-data", "")).decode().strip()

    def _agent(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        text = msgspec.json.encode({"execute": command, "arguments": arguments}).decode()
        answer = libvirt_qemu.qemuAgentCommand(self.domain, text, AGENT_SECONDS, 0)
        told: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])["return"]
        return told


@contextmanager
def living(data: Path, *options: str) -> Iterator[World]:
    """A system with two hosts and real guests; ends with no guest left running, whatever happened."""
    with running(data, "--driver", "libvirt", *options) as system:
        world = World(system)
        try:
            _let_in(world)
            yield world
        finally:
            _end_guests(world)
            world.close()


def _let_in(world: World) -> None:
    """What every user does first: the group `default` lets nobody in from outside, not even this host."""
    group = world.cloud.network.find_security_group("default")
    for protocol in ("icmp", "tcp"):
        world.cloud.network.create_security_group_rule(
            security_group_id=group.id, direction="ingress", ether_type="IPv4", protocol=protocol
        )


def _end_guests(world: World) -> None:
    for server in list(world.admin.compute.servers(all_projects=True)):
        world.admin.compute.delete_server(server, force=True)
    deadline = time.monotonic() + SETTLE_SECONDS
    while world.domains() and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in guest_pids(world.data):
        os.kill(pid, signal.SIGKILL)


def guest_pids(data: Path) -> list[int]:
    """The QEMU processes of this data directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"qemu-system" in words.split(b"\0")[0] and str(data).encode() in words:
            found.append(int(path.parent.name))
    return found


def wait_until(holds: Callable[[], Any], what: str, seconds: float = SETTLE_SECONDS) -> Any:
    return until(holds, what, seconds)
