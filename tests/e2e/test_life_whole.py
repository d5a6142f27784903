"""One server through every operation there is, on a real guest: its history is complete, true and legal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from domain.decide.accepting import must_be_possible
from domain.errors import NotImplementedHere
from domain.machine import MACHINE
from tests.life import MARKS, Guest, World, living, wait_until
from tests.running import chronova

pytestmark = [*MARKS, pytest.mark.timeout(600)]

NOTE = "/data/root/note"
# Soft deletes wait for a restore, and shelved servers for their offload, until somebody says so.
SETTINGS = "[commands]\nreclaim_seconds = 86400\nshelved_offload_seconds = -1\n"


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "chronova.toml").write_text(SETTINGS)
    with living(folder / "data", "--config", str(folder / "chronova.toml")) as world:
        yield world


class Life:
    """The server, and what it was put through: the action that each command has to leave in its history."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.compute = guest.world.cloud.compute
        self.expected = ["create"]

    def goes(self, action: str, method: str, status: str, *arguments: Any, **fields: Any) -> None:
        """A command of the SDK that adds this action and ends in that status."""
        self.after(action, lambda: getattr(self.compute, method)(self.guest.id, *arguments, **fields), status)

    def after(self, action: str, begin: Callable[[], Any], status: str) -> None:
        self.ends(action, begin)
        self.guest.settles(status)

    def ends(self, action: str, begin: Callable[[], Any]) -> None:
        """Ended is what the history says has ended: not every operation has a task_state."""
        (before,) = self.told(1)
        begin()
        self.expected.append(action)

        def ended() -> bool:
            (last,) = self.told(1)
            return last["request_id"] != before["request_id"] and bool(last["finish_time"])

        wait_until(ended, f"{action} has ended")

    def told(self, limit: int) -> list[dict[str, Any]]:
        """The newest of the history, with what Nova keeps no action for."""
        base = self.guest.world.system.ready["base_url"]
        answer = self.guest.world.cloud.session.get(f"{base}/v1/servers/{self.guest.id}/history?limit={limit}")
        found: list[dict[str, Any]] = answer.json()["actions"]
        return found


@pytest.fixture(scope="module")
def life(patient: World) -> Life:
    guest = patient.create("whole")
    guest.settles("ACTIVE")
    guest.boots()
    return Life(guest)


def listed(compute: Any, **filters: str) -> set[str]:
    return {one["id"] for one in compute.get("/servers", params=filters).json()["servers"]}


def test_while_it_runs(patient: World, life: Life) -> None:
    guest, compute, storage = life.guest, life.compute, patient.cloud.block_storage
    life.goes("lock", "lock_server", "ACTIVE")
    life.goes("unlock", "unlock_server", "ACTIVE")
    life.goes("pause", "pause_server", "PAUSED")
    life.goes("unpause", "unpause_server", "ACTIVE")
    guest.run(f"echo kept > {NOTE}; echo in memory > /run/kept; sync")
    life.goes("suspend", "suspend_server", "SUSPENDED")
    life.goes("resume", "resume_server", "ACTIVE")
    assert guest.run("cat /run/kept") == "in memory"
    life.goes("changePassword", "change_server_password", "ACTIVE", "Sesame-1")
    network = patient.cloud.network.find_network("private").id
    (first,) = (one.port_id for one in compute.server_interfaces(guest.id))
    life.goes("attach_interface", "create_server_interface", "ACTIVE", net_id=network)
    (second,) = (one.port_id for one in compute.server_interfaces(guest.id) if one.port_id != first)
    life.after("detach_interface", lambda: compute.delete_server_interface(second, server=guest.id), "ACTIVE")
    volumes = [storage.create_volume(name=name, size=1) for name in ("one", "two")]
    for volume in volumes:
        storage.wait_for_status(volume, "available", failures=["error"], interval=0.2)
    one, two = (volume.id for volume in volumes)
    life.goes("attach_volume", "create_volume_attachment", "ACTIVE", volume_id=one)
    guest.says("CHRONOVA-HOTPLUG add disk vdb 1024M")
    life.after(
        "snapshot_volume", lambda: storage.create_snapshot(volume_id=one, name="whole", is_forced=True), "ACTIVE"
    )
    life.after("swap_volume", lambda: swap(patient, guest, one, two), "ACTIVE")
    life.after("extend_volume", lambda: storage.extend_volume(two, 2), "ACTIVE")
    guest.says("CHRONOVA-HOTPLUG resize disk vdb 2048M")
    life.goes("detach_volume", "delete_volume_attachment", "ACTIVE", two)
    guest.says("CHRONOVA-HOTPLUG remove disk vdb")
    snapshot = storage.find_snapshot("whole")
    storage.delete_snapshot(snapshot)
    storage.wait_for_delete(snapshot, interval=0.2)
    for volume in volumes:
        storage.delete_volume(volume)


def swap(world: World, guest: Guest, old: str, new: str) -> None:
    path = f"/servers/{guest.id}/os-volume_attachments/{old}"
    answer = world.admin.compute.put(path, json={"volumeAttachment": {"volumeId": new}}, microversion="2.96")
    assert answer.status_code == 202


def test_what_has_no_action(patient: World, life: Life) -> None:
    """Changes that Nova keeps no action for are facts of the server's stream all the same."""
    guest, compute = life.guest, life.compute
    old = partial(compute.post, f"/servers/{guest.id}/action", microversion="2.43")  # the last with fixed addresses
    compute.update_server(guest.id, name="renamed", description="described", hostname="hosted")
    compute.set_server_metadata(guest.id, role="db")
    compute.delete_server_metadata(guest.id, ["role"])
    compute.put(f"/servers/{guest.id}/tags", json={"tags": ["blue"]}, microversion="2.96")
    patient.cloud.network.create_security_group(name="whole")
    compute.add_security_group_to_server(guest.id, "whole")
    compute.remove_security_group_from_server(guest.id, "whole")
    network = patient.cloud.network.find_network("private").id
    assert old(json={"addFixedIp": {"networkId": network}}).status_code == 202
    wait_until(lambda: len(guest.server.addresses["private"]) == 2, "it has a second address")
    added = next(one["addr"] for one in guest.server.addresses["private"] if one["addr"] != guest.address)
    assert old(json={"removeFixedIp": {"address": added}}).status_code == 202
    wait_until(lambda: len(guest.server.addresses["private"]) == 1, "it has one address")
    told = patient.admin.compute.post(f"/servers/{guest.id}/action", json={"injectNetworkInfo": None})
    assert told.status_code == 202
    gone = patient.admin.compute.post(f"/servers/{guest.id}/action", json={"resetNetwork": None})
    assert gone.status_code == 410
    guest.settles("ACTIVE")


def test_its_power(life: Life) -> None:
    life.goes("reboot", "reboot_server", "ACTIVE", "SOFT")
    assert life.guest.boots()["boots"] == "2"
    life.goes("trigger_crash_dump", "trigger_server_crash_dump", "ACTIVE")
    life.guest.says("Kernel panic")
    life.goes("reboot", "reboot_server", "ACTIVE", "HARD")
    said = life.guest.boots()
    assert (said["boots"], said["host"]) == ("3", "hosted")
    life.goes("stop", "stop_server", "SHUTOFF")


def test_its_disk(patient: World, life: Life) -> None:
    """Off, as it may be for all of these; then on again."""
    flavor = patient.admin.compute.create_flavor(name="whole.two", ram=128, vcpus=2, disk=2)
    life.goes("createImage", "create_server_image", "SHUTOFF", "image")
    life.goes("createBackup", "backup_server", "SHUTOFF", "backup", "daily", 1)
    life.goes("resize", "resize_server", "VERIFY_RESIZE", flavor.id)
    life.goes("revertResize", "revert_server_resize", "SHUTOFF")
    life.goes("resize", "resize_server", "VERIFY_RESIZE", flavor.id)
    life.goes("confirmResize", "confirm_server_resize", "SHUTOFF")
    life.goes("start", "start_server", "ACTIVE")
    said = life.guest.boots()
    assert (said["boots"], said["cpus"], said["vda"]) == ("4", "2", "2048M")
    assert life.guest.run(f"cat {NOTE}") == "kept"
    image = patient.cloud.image.find_image("image")
    life.goes("rebuild", "rebuild_server", "ACTIVE", image=image.id)
    life.guest.boots()
    assert life.guest.run(f"cat {NOTE}") == "kept"


def test_its_shelf_and_its_rescue(patient: World, life: Life) -> None:
    life.goes("shelve", "shelve_server", "SHELVED")
    offload = {"shelveOffload": None}
    act = patient.admin.compute.post
    life.after("shelveOffload", lambda: act(f"/servers/{life.guest.id}/action", json=offload), "SHELVED_OFFLOADED")
    assert life.guest.id not in patient.domains()
    life.goes("unshelve", "unshelve_server", "ACTIVE")
    life.guest.boots()
    life.goes("rescue", "rescue_server", "RESCUE")
    assert "vdb" in life.guest.boots()
    life.goes("unrescue", "unrescue_server", "ACTIVE")
    life.guest.boots()
    assert life.guest.run(f"cat {NOTE}") == "kept"


def test_its_end(patient: World, life: Life) -> None:
    guest, admin = life.guest, patient.admin.compute
    life.after("resetState", lambda: admin.reset_server_state(guest.id, "active"), "ACTIVE")
    assert guest.id in listed(life.compute)
    life.goes("delete", "delete_server", "SOFT_DELETED")
    # Its name is free for another: who wants to see it asks for its state, or as an administrator for what is deleted.
    assert guest.id not in listed(life.compute) | listed(admin, all_tenants="1")
    assert guest.id in listed(life.compute, status="SOFT_DELETED") & listed(admin, all_tenants="1", deleted="true")
    life.goes("restore", "restore_server", "ACTIVE")
    guest.boots()
    assert guest.run(f"cat {NOTE}") == "kept"
    life.goes("delete", "delete_server", "SOFT_DELETED")
    life.ends("delete", lambda: life.compute.delete_server(guest.id, force=True))
    wait_until(lambda: guest.id not in patient.domains(), "the guest is gone")


def test_the_history_is_complete_and_true(patient: World, life: Life) -> None:
    """Every action that anything here carries out, in order, each ended well, told by the client as by the API."""
    assert set(life.expected) == possible_actions()
    listed = json.loads(patient.client("server", "event", "list", life.guest.id, "-f", "json"))
    assert [one["Action"] for one in reversed(listed)] == life.expected
    for one in listed:
        action = life.compute.get_server_action(one["Request ID"], life.guest.id)
        assert action.message is None, action
        wanted = set() if action.action == "resetState" else {"Success"}  # done in no host, as in Nova
        assert {event["result"] for event in action.events} == wanted, action
    assert {one["result"] for one in life.told(200)} == {"Success"}


def possible_actions() -> set[str]:
    """The actions of all commands of the machine that are not refused as not there."""
    found = set()
    for command in MACHINE.commands:
        try:
            must_be_possible(command)
        except NotImplementedHere:
            continue
        found.add(MACHINE.rule(command).action)
    return {action for action in found if action}


def test_its_stream_is_a_legal_run_of_the_machine(patient: World, life: Life, tmp_path: Path) -> None:
    """The log as a whole, and a copy of it that was taken away; what the read models show is the fold of it."""
    copy = tmp_path / "copy"
    for words, data in (
        (("audit", "verify"), patient.data),
        (("replay", "--verify"), patient.data),
        (("audit", "export", copy), patient.data),
        (("audit", "verify", copy), None),
    ):
        done = chronova(*words, data=data)
        assert done.returncode == 0, done.stdout + done.stderr
