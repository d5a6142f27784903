"""What happens in the middle of an operation, by itself, on volumes and networks: which test sees it on a real guest,
and how to try it on the drivers without one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from openstack.exceptions import ConflictException, NotFoundException

from tests.life import World
from tests.running import until
from tests.trial import SETTLE_SECONDS, Refused, Trial

# How long a system waits with what comes by itself, on which the `hasty` ones are tried.
HASTY_SECONDS = 5
HASTY = f"""
[commands]
resize_confirm_seconds = {HASTY_SECONDS}
shelved_offload_seconds = {HASTY_SECONDS}
reclaim_seconds = {HASTY_SECONDS}
"""
ATTEMPTS = 5  # of what has to be quicker than that
SHELVED = ("SHELVED", "SHELVED_OFFLOADED")


@dataclass(frozen=True)
class Circumstance:
    """`attempt`: null when nothing can be tried without a guest. `hasty`: in a system that waits `HASTY_SECONDS`."""

    what: str
    proof: str
    attempt: Callable[[World], None] | None = None
    hasty: bool = False


def _reset(world: World) -> None:
    trial = Trial.of(world, "reset")
    pid = world.system.pids["agents"]  # of both hosts
    os.kill(pid, signal.SIGSTOP)
    try:
        world.cloud.compute.pause_server(trial.guest.id)
        world.admin.compute.reset_server_state(trial.guest.id, "error")
        assert trial.guest.server.status == "ERROR"
    finally:
        os.kill(pid, signal.SIGCONT)
    trial.do("reboot_server", "ACTIVE", "HARD")
    trial.guest.delete()


def _delete(state: str) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        if state == "building":
            world.create("doomed", networks="none").delete()
            return
        trial, compute = Trial.of(world, "doomed"), world.cloud.compute
        if state == "PAUSED":
            trial.do("pause_server", state)
        elif state == "SUSPENDED":
            trial.do("suspend_server", state)
        elif state == "RESCUE":
            trial.do("rescue_server", state)
        elif state == "snapshot":
            compute.create_server_image(trial.guest.id, "doomed")
        elif state == "rebuild":
            compute.rebuild_server(trial.guest.id, image=world.image_id)
        trial.guest.delete()

    return attempt


# --- what comes by itself ---------------------------------------------------------------------------------------------


def _confirmed(world: World) -> None:
    trial = Trial.of(world, "resized")
    world.cloud.compute.resize_server(trial.guest.id, "1")
    until(lambda: actions(trial)[0] == "confirmResize", "the resize is confirmed", SETTLE_SECONDS)
    trial.settles("ACTIVE")


def actions(trial: Trial) -> list[str]:
    return [one.action for one in trial.world.cloud.compute.server_actions(trial.guest.id)]


def _leaves(world: World) -> None:
    Trial.of(world, "leaves").do("shelve_server", "SHELVED_OFFLOADED")


def _comes_back(world: World) -> None:
    """From the shelf on its host. One that left it in the meantime was late: once more."""
    trial = Trial.of(world, "back")
    for _ in range(ATTEMPTS):
        world.cloud.compute.shelve_server(trial.guest.id)
        until(lambda: trial.went_wrong() or trial.guest.server.status in SHELVED, "it is shelved", SETTLE_SECONDS)
        if failed := trial.went_wrong():
            raise Refused(failed)
        with suppress(ConflictException):  # it is just leaving
            trial.do("unshelve_server", "ACTIVE")
            if actions(trial)[:2] == ["unshelve", "shelve"]:
                return
            continue
        trial.settles("SHELVED_OFFLOADED")
        trial.do("unshelve_server", "ACTIVE")
    raise AssertionError("it never came back from its host")


def _restored(world: World) -> None:
    for _ in range(ATTEMPTS):
        trial = Trial.of(world, "restored")
        world.cloud.compute.delete_server(trial.guest.id)
        if there(trial) == "SOFT_DELETED":
            with suppress(ConflictException, NotFoundException):  # its time has just come
                trial.do("restore_server", "ACTIVE")
                return
    raise AssertionError("it was never restored in time")


def there(trial: Trial) -> str:
    """SOFT_DELETED as soon as it is; empty when it is gone."""

    def status() -> str:
        found = trial.world.cloud.compute.find_server(trial.guest.id)
        return "gone" if found is None else str(found.status) if found.status == "SOFT_DELETED" else ""

    return str(until(status, "it is deleted", SETTLE_SECONDS))


def _ends(world: World) -> None:
    trial = Trial.of(world, "ends")
    world.cloud.compute.delete_server(trial.guest.id)
    _is_gone(trial)


def _is_gone(trial: Trial) -> None:
    until(lambda: there(trial) == "gone", "it is gone", SETTLE_SECONDS)


def _forced(world: World) -> None:
    for _ in range(ATTEMPTS):
        trial = Trial.of(world, "forced")
        world.cloud.compute.delete_server(trial.guest.id)
        if there(trial) == "SOFT_DELETED":
            with suppress(ConflictException, NotFoundException):
                world.cloud.compute.delete_server(trial.guest.id, force=True)
                _is_gone(trial)
                return
    raise AssertionError("it was never deleted in time")


# --- volumes and networks ---------------------------------------------------------------------------------------------


def _booted(world: World, name: str) -> Trial:
    """A server whose root disk is a volume made of the image, and goes with it."""
    given = {"source_type": "image", "destination_type": "volume", "uuid": world.image_id, "volume_size": 1}
    return Trial.of(world, name, block_device_mapping=[given | {"boot_index": 0, "delete_on_termination": True}])


def _on_volume(*steps: Callable[[Trial], None]) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        trial = _booted(world, "rooted")
        for step in steps:
            step(trial)
        trial.guest.delete()

    return attempt


def does(action: str, status: str, *arguments: Any) -> Callable[[Trial], None]:
    return lambda trial: trial.do(action, status, *arguments)


def _several(world: World) -> None:
    trial, compute = Trial.of(world, "several"), world.cloud.compute
    for device in ("/dev/vdd", None):
        named = {"device": device} if device else {}
        trial.do("create_volume_attachment", "ACTIVE", volume_id=trial.makes_volume(), **named)
    devices = [one.device for one in compute.volume_attachments(trial.guest.id)]
    assert devices == ["/dev/vdd", "/dev/vdb"]
    trial.guest.delete()


def _imaged(trial: Trial) -> None:
    compute = trial.world.cloud.compute
    image = compute.create_server_image(trial.guest.id, "of-volumes")
    trial.settles("ACTIVE")
    Trial.of(trial.world, "of-snapshots", image_id=image.id).guest.delete()


def _rebuilt(trial: Trial) -> None:
    trial.act({"rebuild": {"imageRef": trial.world.image_id}}, "2.93")
    trial.settles("ACTIVE")


def _outlived(world: World) -> None:
    first = Trial.of(world, "first")
    volume = first.makes_volume(image_id=world.image_id)
    first.guest.delete()
    root = {"source_type": "volume", "destination_type": "volume", "uuid": volume, "boot_index": 0}
    for name in ("second", "third"):
        Trial.of(world, name, block_device_mapping=[root]).guest.delete()
        kept = world.cloud.block_storage.get_volume(volume)
        assert kept.status == "available"


def _both_families(world: World) -> None:
    network = world.cloud.network
    net = network.create_network(name="both")
    network.create_subnet(network_id=net.id, ip_version=4, cidr="10.93.1.0/24")
    stateful = {"ipv6_ra_mode": "dhcpv6-stateful", "ipv6_address_mode": "dhcpv6-stateful"}
    network.create_subnet(network_id=net.id, ip_version=6, cidr="fd00:93:1::/64", **stateful)
    trial = Trial.of(world, "both", networks=[{"uuid": net.id}])
    assert {one["version"] for one in trial.guest.server.addresses["both"]} == {4, 6}
    trial.guest.delete()


CIRCUMSTANCES = (
    Circumstance(
        "resume after the agent was killed: the guest's counter goes on",
        "test_a_suspended_guest_goes_on_counting_after_its_agent_was_killed",
    ),
    Circumstance(
        "suspend, its agent killed meanwhile: the guest's counter goes on",
        "test_an_agent_killed_while_it_suspends_does_it_to_the_end",
    ),
    Circumstance(
        "a guest that goes off while its agent stands still is stopped, with the reason",
        "test_a_guest_that_went_off_while_no_agent_ran_is_stopped_with_the_reason",
    ),
    Circumstance(
        "a guest started behind our back is stopped again", "test_a_guest_started_behind_our_back_is_stopped_again"
    ),
    Circumstance(
        "reset-state ends what is going on and looks at the guest",
        "test_a_reset_ends_what_was_going_on_and_looks_at_the_guest",
        _reset,
    ),
    *(
        Circumstance(f"delete: {state}", f"test_delete_ends_everything[{state}]", _delete(state))
        for state in ("building", "PAUSED", "SUSPENDED", "RESCUE", "snapshot", "rebuild")
    ),
    Circumstance(
        "a disk that does not boot, repaired from a rescue image",
        "test_a_disk_that_does_not_boot_is_repaired_from_a_rescue_image",
    ),
    Circumstance("a resize that confirms itself", "test_a_resize_is_confirmed_by_itself", _confirmed, hasty=True),
    Circumstance(
        "a shelf on the host, and leaving it later",
        "test_a_shelved_server_stays_on_its_host_for_its_time_and_leaves",
        _leaves,
        hasty=True,
    ),
    Circumstance("unshelve on the host", "test_a_shelved_server_comes_back_where_it_is", _comes_back, hasty=True),
    Circumstance("soft delete and restore", "test_a_deleted_server_can_be_restored", _restored, hasty=True),
    Circumstance("soft delete and its end", "test_a_deleted_server_is_gone_when_its_time_comes", _ends, hasty=True),
    Circumstance("force delete", "test_a_soft_deleted_server_is_deleted_at_once_when_forced", _forced, hasty=True),
    Circumstance(
        "one server through every operation, its history legal", "test_its_stream_is_a_legal_run_of_the_machine"
    ),
    Circumstance("a snapshot without room on the disk", "test_a_snapshot_without_room_fails_and_leaves_nothing"),
    Circumstance("a resize without room on the disk", "test_a_resize_without_room_fails_and_the_server_goes_on"),
    Circumstance("a build without room on the disk", "test_a_build_without_room_says_so_and_leaves_nothing"),
    Circumstance("boot from a volume", "test_a_server_boots_from_a_volume", _on_volume()),
    Circumstance(
        "stop, start, reboot, pause and suspend on a volume",
        "test_it_lives_as_any_other",
        _on_volume(
            does("stop_server", "SHUTOFF"),
            does("start_server", "ACTIVE"),
            does("reboot_server", "ACTIVE", "HARD"),
            does("pause_server", "PAUSED"),
            does("unpause_server", "ACTIVE"),
            does("suspend_server", "SUSPENDED"),
            does("resume_server", "ACTIVE"),
        ),
    ),
    Circumstance(
        "several volumes, their names and their order", "test_volumes_beside_the_root_have_names_and_order", _several
    ),
    Circumstance("a broken root volume, repaired in a rescue", "test_a_broken_root_volume_is_repaired_in_a_rescue"),
    Circumstance(
        "create image of volumes, and boot from it", "test_an_image_of_it_is_snapshots_and_boots", _on_volume(_imaged)
    ),
    Circumstance("rebuild on a volume", "test_rebuild_keeps_the_volume_or_fills_it_anew", _on_volume(_rebuilt)),
    Circumstance(
        "resize and revert on a volume",
        "test_resize_and_back",
        _on_volume(does("resize_server", "VERIFY_RESIZE", "1"), does("revert_server_resize", "ACTIVE")),
    ),
    Circumstance(
        "shelve and unshelve on a volume",
        "test_a_shelved_one_keeps_its_volume_and_makes_no_image",
        _on_volume(does("shelve_server", "SHELVED_OFFLOADED"), does("unshelve_server", "ACTIVE")),
    ),
    Circumstance(
        "a volume that outlives its server",
        "test_a_volume_is_kept_when_its_server_goes_and_boots_the_next",
        _outlived,
    ),
    Circumstance("a volume without room on the disk", "test_a_full_disk_is_said_and_leaves_nothing"),
    Circumstance("addresses of IPv4 and IPv6", "test_a_guest_has_the_addresses_of_both_families", _both_families),
    Circumstance("two systems on one machine", "test_a_second_system_on_this_machine_is_in_nobodys_way"),
)
