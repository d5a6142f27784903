"""The operations of a server's life: what proves each on a real guest, and how to try it on drivers without one.

`pytest --write-operations tests/e2e` writes docs/operations-matrix.md from what that run has seen; without the option a
run checks that the document is what it saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import openstack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.life import Guest, World
from tests.running import until
from tests.seen import PASSED

DOCUMENT = Path(__file__).parents[1] / "docs" / "operations-matrix.md"
SETTLE_SECONDS = 90.0
YES, NO = "yes", "refused"


@dataclass
class Trial:
    """A server on a driver without real guests, and what its operations leave behind for later ones."""

    world: World
    guest: Guest
    image_id: str = ""
    flavor_id: str = ""
    volume_id: str = ""
    port_id: str = ""
    earlier: str = ""  # the request id of the action before

    def newest_action(self) -> dict[str, Any]:
        base = self.world.system.ready["base_url"]
        answer = self.world.cloud.session.get(f"{base}/v1/servers/{self.guest.id}/history?limit=1")
        newest: dict[str, Any] = answer.json()["actions"][0]
        return newest

    def went_wrong(self, last: dict[str, Any] | None = None) -> str | None:
        """What the history says of the operation being tried, if it failed. To be asked last: both end at once."""
        last = last or self.newest_action()
        failed = last["request_id"] != self.earlier and last["result"] == "Error"
        return f"failed: {last['text']}" if failed else None

    def do(self, action: str, status: str, *arguments: Any, **fields: Any) -> None:
        """An action of the SDK that has to end in `status` and be told as a success."""
        getattr(self.world.cloud.compute, action)(self.guest.id, *arguments, **fields)
        self.settles(status)

    def settles(self, status: str) -> None:
        """Wait for the status, or for an action that failed: a task_state does not show every work."""

        def ended() -> Any:
            server = self.guest.server
            there = server.status == status and not server.task_state
            last = self.newest_action()
            return self.went_wrong(last) or (status if there and last["finish_time"] else None)

        outcome = until(ended, f"the server is {status}", SETTLE_SECONDS)
        if outcome != status:
            raise Refused(outcome)


class Refused(Exception):
    """The driver could not do it; the server is as it was."""


@dataclass(frozen=True)
class Operation:
    name: str
    proof: str  # the test that sees it inside a real guest
    attempt: Callable[[Trial], None]


def simple(action: str, status: str, *arguments: Any, **fields: Any) -> Callable[[Trial], None]:
    return lambda trial: trial.do(action, status, *arguments, **fields)


def _image(trial: Trial) -> None:
    image = trial.world.cloud.compute.create_server_image(trial.guest.id, "trial")
    trial.settles("ACTIVE")
    trial.image_id = image.id
    until(lambda: trial.world.cloud.image.get_image(image.id).status == "active", "the image is active", SETTLE_SECONDS)


def _boot_snapshot(trial: Trial) -> None:
    other = trial.world.create("other", image_id=trial.image_id)
    other.settles("ACTIVE")
    other.delete()


def _attach_volume(trial: Trial) -> None:
    storage = trial.world.cloud.block_storage
    volume = storage.create_volume(name="trial", size=1)
    storage.wait_for_status(volume, "available", failures=["error"], interval=0.1, wait=SETTLE_SECONDS)
    trial.volume_id = volume.id
    trial.world.cloud.compute.create_volume_attachment(trial.guest.id, volume_id=volume.id)
    _volume_becomes(trial, "in-use", "available")


def _detach_volume(trial: Trial) -> None:
    trial.world.cloud.compute.delete_volume_attachment(trial.guest.id, trial.volume_id, ignore_missing=False)
    _volume_becomes(trial, "available")


def _volume_becomes(trial: Trial, wanted: str, *others: str) -> None:
    def status() -> str:
        return str(trial.world.cloud.block_storage.get_volume(trial.volume_id).status)

    until(lambda: status() in (wanted, *others), f"the volume is {wanted}", SETTLE_SECONDS)
    if status() != wanted:
        raise Refused(f"the volume is {status()}")
    trial.settles("ACTIVE")


def _attach_interface(trial: Trial) -> None:
    network = trial.world.cloud.network.find_network("private")
    trial.port_id = trial.world.cloud.compute.create_server_interface(trial.guest.id, net_id=network.id).port_id
    _addresses_become(trial, 2)


def _detach_interface(trial: Trial) -> None:
    trial.world.cloud.compute.delete_server_interface(trial.port_id, server=trial.guest.id, ignore_missing=False)
    _addresses_become(trial, 1)


def _addresses_become(trial: Trial, wanted: int) -> None:
    def ended() -> Any:
        return len(trial.guest.server.addresses["private"]) == wanted or trial.went_wrong()

    until(ended, f"there are {wanted} addresses", SETTLE_SECONDS)
    trial.settles("ACTIVE")


def _add_group(trial: Trial) -> None:
    trial.world.cloud.network.create_security_group(name="trial")
    trial.do("add_security_group_to_server", "ACTIVE", "trial")


def _console(protocol: str, kind: str) -> Callable[[Trial], None]:
    def attempt(trial: Trial) -> None:
        """The address answers, and stays open for what the guest says."""
        path = f"/servers/{trial.guest.id}/remote-consoles"
        wanted = {"remote_console": {"protocol": protocol, "type": kind}}
        told = trial.world.cloud.compute.post(path, json=wanted, microversion="2.96").json()["remote_console"]
        token = unquote(told["url"]).rpartition("token=")[2]
        base = trial.world.system.ready["base_url"].replace("http", "ws", 1)
        try:
            with connect(f"{base}/console/{protocol}?token={token}") as socket:
                socket.recv(timeout=SETTLE_SECONDS)
        except ConnectionClosed as closed:
            raise Refused(str(closed)) from closed

    return attempt


def _resize(trial: Trial) -> None:
    trial.do("resize_server", "VERIFY_RESIZE", "1")


_RESCUE = "test_rescue_boots_another_disk_with_the_own_one_second"
_RESIZE = "test_resize_is_seen_inside_and_reverted"
_SHELVE = "test_a_shelved_server_leaves_its_host_and_comes_back_whole"
_STOP = "test_stop_is_a_clean_power_off_and_start_boots_the_same_disk"
_PAUSE = "test_a_paused_guest_stands_still"
_SUSPEND = "test_a_suspended_guest_keeps_its_memory"
_LOCK = "test_a_locked_server_is_left_alone"
_VOLUME = "test_a_volume_is_written_in_one_guest_and_read_in_another"
_INTERFACE = "test_interfaces_come_by_network_and_by_port_and_go"
_GROUPS = "test_a_group_is_given_to_a_server_and_taken_away"
_SCREEN = "test_what_is_typed_on_the_screen_is_answered_there"
_SERIAL = "test_a_line_on_the_serial_console_is_answered"
_REBOOT = "test_reboot_soft_and_hard"

OPERATIONS = (
    Operation("create", "test_a_server_boots_with_what_was_asked_for", lambda trial: trial.settles("ACTIVE")),
    Operation("stop", _STOP, simple("stop_server", "SHUTOFF")),
    Operation("start", _STOP, simple("start_server", "ACTIVE")),
    Operation("reboot, soft", _REBOOT, simple("reboot_server", "ACTIVE", "SOFT")),
    Operation("reboot, hard", _REBOOT, simple("reboot_server", "ACTIVE", "HARD")),
    Operation("pause", _PAUSE, simple("pause_server", "PAUSED")),
    Operation("unpause", _PAUSE, simple("unpause_server", "ACTIVE")),
    Operation("suspend", _SUSPEND, simple("suspend_server", "SUSPENDED")),
    Operation("resume", _SUSPEND, simple("resume_server", "ACTIVE")),
    Operation("lock", _LOCK, simple("lock_server", "ACTIVE")),
    Operation("unlock", _LOCK, simple("unlock_server", "ACTIVE")),
    Operation(
        "change password",
        "test_a_password_is_changed_through_the_guest_agent",
        simple("change_server_password", "ACTIVE", "Sesame-2"),
    ),
    Operation("screen", _SCREEN, _console("vnc", "novnc")),
    Operation("serial console", _SERIAL, _console("serial", "serial")),
    Operation("create image", "test_a_snapshot_is_whole_and_names_its_source", _image),
    Operation("boot from a snapshot", "test_a_new_server_boots_from_the_snapshot", _boot_snapshot),
    Operation("create backup", "test_backups_rotate", simple("backup_server", "ACTIVE", "backup", "daily", 1)),
    Operation("rescue", _RESCUE, simple("rescue_server", "RESCUE")),
    Operation("unrescue", _RESCUE, simple("unrescue_server", "ACTIVE")),
    Operation(
        "rebuild",
        "test_rebuild_from_a_snapshot_and_from_an_image",
        lambda trial: trial.do("rebuild_server", "ACTIVE", image=trial.world.image_id),
    ),
    Operation("resize", _RESIZE, _resize),
    Operation("revert resize", _RESIZE, simple("revert_server_resize", "ACTIVE")),
    Operation("resize again", "test_resize_is_confirmed", _resize),
    Operation("confirm resize", "test_resize_is_confirmed", simple("confirm_server_resize", "ACTIVE")),
    Operation("shelve and offload", _SHELVE, simple("shelve_server", "SHELVED_OFFLOADED")),
    Operation("unshelve", _SHELVE, simple("unshelve_server", "ACTIVE")),
    Operation("attach volume", _VOLUME, _attach_volume),
    Operation("detach volume", _VOLUME, _detach_volume),
    Operation("attach interface", _INTERFACE, _attach_interface),
    Operation("detach interface", _INTERFACE, _detach_interface),
    Operation("add security group", _GROUPS, _add_group),
    Operation("remove security group", _GROUPS, simple("remove_security_group_from_server", "ACTIVE", "trial")),
    Operation(
        "trigger crash dump",
        "test_a_crash_dump_makes_the_guest_panic",
        simple("trigger_server_crash_dump", "ACTIVE"),
    ),
    Operation("delete", "test_delete_leaves_a_true_history_and_nothing_else", lambda trial: trial.guest.delete()),
)


# What happens in the middle of an operation, by itself, or on other volumes and networks, and the test that sees it
# on a real guest.
CIRCUMSTANCES = {
    "resume after the agent was killed: the guest's counter goes on": (
        "test_a_suspended_guest_goes_on_counting_after_its_agent_was_killed"
    ),
    "suspend, its agent killed meanwhile": "test_an_agent_killed_while_it_suspends_does_it_to_the_end",
    "a guest that goes off while its agent stands still is stopped, with the reason": (
        "test_a_guest_that_went_off_while_no_agent_ran_is_stopped_with_the_reason"
    ),
    "a guest started behind our back is stopped again": "test_a_guest_started_behind_our_back_is_stopped_again",
    "reset-state ends what is going on and looks at the guest": (
        "test_a_reset_ends_what_was_going_on_and_looks_at_the_guest"
    ),
    **{
        f"delete: {state}": f"test_delete_ends_everything[{state}]"
        for state in ("building", "PAUSED", "SUSPENDED", "RESCUE", "snapshot", "rebuild")
    },
    "a disk that does not boot, repaired from a rescue image": (
        "test_a_disk_that_does_not_boot_is_repaired_from_a_rescue_image"
    ),
    "a resize that confirms itself": "test_a_resize_is_confirmed_by_itself",
    "a shelf on the host, and leaving it later": "test_a_shelved_server_stays_on_its_host_for_its_time_and_leaves",
    "unshelve on the host": "test_a_shelved_server_comes_back_where_it_is",
    "soft delete and restore": "test_a_deleted_server_can_be_restored",
    "soft delete and its end": "test_a_deleted_server_is_gone_when_its_time_comes",
    "force delete": "test_a_soft_deleted_server_is_deleted_at_once_when_forced",
    "diagnostics, console output, topology": "test_the_figures_and_the_words_are_the_guests_own",
    "a snapshot without room on the disk": "test_a_snapshot_without_room_fails_and_leaves_nothing",
    "a resize without room on the disk": "test_a_resize_without_room_fails_and_the_server_goes_on",
    "a build without room on the disk": "test_a_build_without_room_says_so_and_leaves_nothing",
    "boot from a volume": "test_a_server_boots_from_a_volume",
    "stop, start, reboot, pause and suspend on a volume": "test_it_lives_as_any_other",
    "several volumes, their names and their order": "test_volumes_beside_the_root_have_names_and_order",
    "swap volume": "test_a_volume_is_swapped_under_a_guest_that_uses_it",
    "a broken root volume, repaired in a rescue": "test_a_broken_root_volume_is_repaired_in_a_rescue",
    "create image of volumes, and boot from it": "test_an_image_of_it_is_snapshots_and_boots",
    "rebuild on a volume": "test_rebuild_keeps_the_volume_or_fills_it_anew",
    "resize and revert on a volume": "test_resize_and_back",
    "shelve and unshelve on a volume": "test_a_shelved_one_keeps_its_volume_and_makes_no_image",
    "a volume that outlives its server": "test_a_volume_is_kept_when_its_server_goes_and_boots_the_next",
    "a volume without room on the disk": "test_a_full_disk_is_said_and_leaves_nothing",
    "addresses of IPv4 and IPv6": "test_a_guest_has_the_addresses_of_both_families",
    "add and remove a fixed address": "test_addresses_come_and_go_as_typed",
    "two systems on one machine": "test_a_second_system_on_this_machine_is_in_nobodys_way",
}


def tried(world: World) -> dict[str, str]:
    """Every operation on one server of a driver without real guests: whether it went through or was refused."""
    trial = Trial(world, world.create("trial"))
    seen = {}
    for operation in OPERATIONS:
        try:
            operation.attempt(trial)
            seen[operation.name] = YES
        except (Refused, openstack.exceptions.SDKException):
            seen[operation.name] = NO
            if trial.guest.server.status == "SHUTOFF":  # a shelve that failed after the guest was shut down
                trial.do("start_server", "ACTIVE")
        if operation.name != "delete":
            trial.earlier = trial.newest_action()["request_id"]
    return seen


HEAD = """# Operations and drivers

Written by the end-to-end suite (`pytest --write-operations tests/e2e`) from what that run has seen.

- **libvirt**: on a real QEMU guest; `inside` means that the named test looked inside the guest (console, guest agent)
  or, for what a guest cannot know, at its host.
- **libvirt-test** (libvirt's own test driver, no guest) and **simulated**: `yes` means that the operation ended in
  the status it should and its history says success; `refused` that it ended with an error that says so, the server as
  it was. Security groups are kept there, but filter nothing.

| operation | libvirt | libvirt-test | simulated | seen by |
|---|---|---|---|---|
"""


def document(seen: dict[str, dict[str, str]]) -> str:
    rows = []
    for operation in OPERATIONS:
        inside = "inside" if operation.proof in PASSED else "not seen"
        others = " | ".join(seen[driver][operation.name] for driver in ("libvirt-test", "simulated"))
        rows.append(f"| {operation.name} | {inside} | {others} | `{operation.proof}` |")
    return HEAD + "\n".join(rows) + "\n" + circumstances()


def circumstances() -> str:
    rows = [
        f"| {what} | {'inside' if proof in PASSED else 'not seen'} | `{proof}` |"
        for what, proof in CIRCUMSTANCES.items()
    ]
    head = "\n## In the middle, by itself, on volumes and networks\n\n| what | libvirt | seen by |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"
