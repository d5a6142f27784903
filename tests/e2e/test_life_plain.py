"""The plain life of a server on a real guest: each action is seen from outside and from inside the guest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openstack
import pytest

from tests.life import MARKS, REACHABLE, Guest, World, wait_until
from tests.running import chronova

pytestmark = MARKS


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, list[str]]:
    return world.leftovers()


@pytest.fixture(scope="module")
def guest(world: World, before: dict[str, list[str]]) -> Iterator[Guest]:
    """Made as a user would type it, with names."""
    words = ("--image", "tiny", "--flavor", "m1.nano", "--network", "private", "--wait", "plain", "-f", "json")
    made = json.loads(world.client("server", "create", *words))
    assert made["status"] == "ACTIVE"
    guest = Guest(world, made["id"])
    yield guest
    if guest.id in world.domains():
        guest.delete()


def test_a_server_boots_with_what_was_asked_for(world: World, guest: Guest) -> None:
    said = guest.boots()
    server = guest.server
    (port,) = world.cloud.network.ports(device_id=guest.id)
    assert (said["boots"], said["cpus"], said["host"]) == ("1", "1", "plain")
    assert said["ip"] == guest.address == port.fixed_ips[0]["ip_address"]
    assert said["vda"] == "1024M"
    assert said["eth0"] == port.mac_address
    assert 48_000 < int(said["mem"].removesuffix("kB")) <= 96 * 1024
    assert (server.vm_state, server.power_state, server.task_state) == ("active", 1, None)
    assert guest.run("hostname") == "plain"
    assert guest.answers() == REACHABLE


def test_stop_is_a_clean_power_off_and_start_boots_the_same_disk(guest: Guest) -> None:
    guest.run("echo kept > /data/root/note")
    server = guest.do("stop_server", "SHUTOFF")
    assert (server.vm_state, server.power_state) == ("stopped", 4)
    guest.says("CHRONOVA-POWEROFF")
    assert not guest.domain.isActive()
    guest.do("start_server", "ACTIVE")
    assert guest.boots()["boots"] == "2"
    assert guest.run("cat /data/root/note") == "kept"


def test_reboot_soft_and_hard(guest: Guest) -> None:
    guest.do("reboot_server", "ACTIVE", "SOFT")
    assert guest.boots()["boots"] == "3"
    guest.run("true")
    guest.do("reboot_server", "ACTIVE", "HARD")
    assert guest.boots()["boots"] == "4"


def test_a_paused_guest_stands_still(guest: Guest) -> None:
    guest.run("true")
    server = guest.do("pause_server", "PAUSED")
    assert server.power_state == 3
    assert not guest.answers(seconds=1.0)
    guest.do("unpause_server", "ACTIVE")
    assert guest.answers() == REACHABLE


def test_a_suspended_guest_keeps_its_memory(guest: Guest) -> None:
    guest.run("echo in-memory > /run/note")
    server = guest.do("suspend_server", "SUSPENDED")
    assert (server.vm_state, server.power_state) == ("suspended", 7)
    assert not guest.domain.isActive()
    guest.do("resume_server", "ACTIVE")
    assert guest.run("cat /run/note; cat /data/boots") == "in-memory\n4"
    assert guest.answers() == REACHABLE


def test_a_locked_server_is_left_alone(world: World, guest: Guest) -> None:
    world.cloud.compute.lock_server(guest.id, locked_reason="not now")
    with pytest.raises(openstack.exceptions.ConflictException):
        world.cloud.compute.stop_server(guest.id)
    assert guest.server.is_locked
    world.cloud.compute.unlock_server(guest.id)
    assert not guest.server.is_locked


def test_the_figures_and_the_words_are_the_guests_own(world: World, guest: Guest) -> None:
    (port,) = world.cloud.network.ports(device_id=guest.id)

    def told() -> dict[str, Any]:
        return dict(world.admin.compute.get(f"/servers/{guest.id}/diagnostics", microversion="2.96").json())

    before = told()
    assert (before["state"], before["num_cpus"]) == ("running", 1)
    assert before["memory_details"]["maximum"] == 96
    assert [nic["mac_address"] for nic in before["nic_details"]] == [port.mac_address]
    guest.run("dd if=/dev/urandom of=/data/root/much bs=64k count=16; sync; rm /data/root/much")
    after = told()
    assert sum(one["write_bytes"] for one in after["disk_details"]) >= 1 << 20
    assert after["disk_details"][0]["write_bytes"] > before["disk_details"][0]["write_bytes"]
    guest.run("echo the last words > /dev/console")

    def last() -> str:
        return str(world.cloud.compute.get_server_console_output(guest.id, length=1)["output"])

    wait_until(lambda: last().strip().endswith("the last words"), "its serial port has sent them")
    assert len(last().splitlines()) == 1
    topology = world.cloud.compute.get(f"/servers/{guest.id}/topology", microversion="2.96").json()
    assert topology == {"nodes": [], "pagesize_kb": None}


def test_delete_leaves_a_true_history_and_nothing_else(
    world: World, guest: Guest, before: dict[str, list[str]]
) -> None:
    expected = ["create", "stop", "start", "reboot", "reboot", "pause", "unpause", "suspend", "resume"]
    assert guest.history() == [(action, None) for action in [*expected, "lock", "unlock"]]
    world.client("server", "delete", "--wait", "plain")
    assert world.left_since(before) == {}
    found = chronova("audit", "verify", data=world.data)
    assert found.returncode == 0, found.stdout + found.stderr
