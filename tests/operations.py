"""The operations of a server's life: what proves each on a real guest, and how to try it on drivers without one.

`pytest --write-operations tests/e2e` writes docs/operations-matrix.md from what that run has seen; without the option a
run checks that the document is what it saw.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import openstack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.circumstances import CIRCUMSTANCES, Circumstance
from tests.life import World
from tests.running import Running, until
from tests.seen import PASSED
from tests.trial import SETTLE_SECONDS, Refused, Trial

DOCUMENT = Path(__file__).parents[1] / "docs" / "operations-matrix.md"
DRIVERS = ("libvirt-test", "simulated")
YES, NO, NOTHING_TO_TRY = "yes", "refused", "needs a guest"


@dataclass(frozen=True)
class Operation:
    """`libvirt`: what its proof sees there, such as `inside` the guest."""

    name: str
    proof: str
    attempt: Callable[[Trial], None]
    libvirt: str = "inside"


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
    trial.volume_id = trial.makes_volume()
    trial.world.cloud.compute.create_volume_attachment(trial.guest.id, volume_id=trial.volume_id)
    _volume_becomes(trial, "in-use", "available")


def _swap_volume(trial: Trial) -> None:
    path, new = f"/servers/{trial.guest.id}/os-volume_attachments/{trial.volume_id}", trial.makes_volume()
    body = {"volumeAttachment": {"volumeId": new}}
    openstack.exceptions.raise_from_response(trial.world.admin.compute.put(path, json=body, microversion="2.96"))
    _volume_becomes(trial, "available")
    trial.volume_id = new
    _volume_becomes(trial, "in-use")


def _must_be_attached(trial: Trial) -> None:
    """A volume that no server has is no matter of its driver."""
    if not list(trial.world.cloud.compute.volume_attachments(trial.guest.id)):
        raise Refused("it has no volume")


def _snapshot_in_use(trial: Trial) -> None:
    _must_be_attached(trial)
    storage = trial.world.cloud.block_storage
    snapshot = storage.create_snapshot(volume_id=trial.volume_id, name="trial", is_forced=True)
    storage.wait_for_status(snapshot, "available", failures=["error"], interval=0.1, wait=SETTLE_SECONDS)
    trial.settles("ACTIVE")
    storage.delete_snapshot(snapshot)
    storage.wait_for_delete(snapshot, interval=0.1, wait=SETTLE_SECONDS)


def _extend_volume(trial: Trial) -> None:
    _must_be_attached(trial)
    trial.world.cloud.block_storage.extend_volume(trial.volume_id, 2)
    _volume_becomes(trial, "in-use", "error")
    assert trial.world.cloud.block_storage.get_volume(trial.volume_id).size == 2


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


def _rename(trial: Trial) -> None:
    new = {"name": "renamed", "description": "described", "hostname": "renamed"}
    trial.world.cloud.compute.update_server(trial.guest.id, **new)
    server = trial.guest.server
    assert (server.name, server.description, server.hostname) == tuple(new.values())


def _metadata(trial: Trial) -> None:
    compute = trial.world.cloud.compute
    compute.set_server_metadata(trial.guest.id, role="db")
    assert trial.guest.server.metadata == {"role": "db"}
    compute.delete_server_metadata(trial.guest.id, ["role"])
    assert trial.guest.server.metadata == {}


def _tags(trial: Trial) -> None:
    path = f"/servers/{trial.guest.id}/tags"
    answer = trial.world.cloud.compute.put(path, json={"tags": ["blue"]}, microversion="2.96")
    openstack.exceptions.raise_from_response(answer)
    assert trial.guest.server.tags == ["blue"]


def _told(trial: Trial) -> None:
    """A server with all that a config drive carries, and a tag for its interface."""
    compute = trial.world.cloud.compute
    compute.create_keypair(name="told")
    network = trial.world.cloud.network.find_network("private").id
    given = {"key_name": "told", "user_data": "IyEvYmluL3NoCg==", "networks": [{"uuid": network, "tag": "front"}]}
    other = Trial.of(trial.world, "told", **given)
    assert other.guest.server.key_name == "told"
    path = f"/servers/{other.guest.id}/os-interface"
    (interface,) = compute.get(path, microversion="2.96").json()["interfaceAttachments"]
    assert interface["tag"] == "front"
    other.guest.delete()


def _group(policy: str, hosts: int) -> Callable[[Trial], None]:
    def attempt(trial: Trial) -> None:
        world = trial.world
        group = world.cloud.compute.create_server_group(name=policy, policy=policy)
        members = [Trial.of(world, policy, scheduler_hints={"group": group.id}) for _ in range(2)]
        at = {world.admin.compute.get_server(member.guest.id).compute_host for member in members}
        assert len(at) == hosts
        for member in members:
            member.guest.delete()

    return attempt


def _news(trial: Trial) -> None:
    """From other services: a power update off and on, and one about nobody."""
    nobody = {"name": "network-changed", "server_uuid": "00000000-0000-0000-0000-00000000dead"}
    for tag, status, code in (("POWER_OFF", "SHUTOFF", 207), ("POWER_ON", "ACTIVE", 200)):
        event = {"name": "power-update", "tag": tag, "server_uuid": trial.guest.id}
        body = {"events": [event, nobody] if code == 207 else [event]}
        answer = trial.world.admin.compute.post("/os-server-external-events", json=body, microversion="2.96")
        assert answer.status_code == code
        trial.settles(status)


def _reset_state(trial: Trial) -> None:
    trial.world.admin.compute.reset_server_state(trial.guest.id, "active")
    trial.settles("ACTIVE")


def _add_address(trial: Trial) -> None:
    network = trial.world.cloud.network.find_network("private")
    trial.act({"addFixedIp": {"networkId": network.id}}, "2.43")
    _addresses_become(trial, 2)


def _remove_address(trial: Trial) -> None:
    addresses = trial.guest.server.addresses["private"]
    trial.act({"removeFixedIp": {"address": addresses[-1]["addr"]}}, "2.43")
    _addresses_become(trial, 1)


def _ask(path: str) -> Callable[[Trial], None]:
    def attempt(trial: Trial) -> None:
        answer = trial.world.admin.compute.get(f"/servers/{trial.guest.id}/{path}", microversion="2.96")
        openstack.exceptions.raise_from_response(answer)
        assert answer.json()

    return attempt


def _console_output(trial: Trial) -> None:
    trial.world.cloud.compute.get_server_console_output(trial.guest.id)


def _add_group(trial: Trial) -> None:
    trial.world.cloud.network.create_security_group(name="trial")
    trial.do("add_security_group_to_server", "ACTIVE", "trial")


def _console(protocol: str, kind: str) -> Callable[[Trial], None]:
    def attempt(trial: Trial) -> None:
        """The address answers, and stays open for what the guest says."""
        path = f"/servers/{trial.guest.id}/remote-consoles"
        wanted = {"remote_console": {"protocol": protocol, "type": kind}}
        answer = trial.world.cloud.compute.post(path, json=wanted, microversion="2.96")
        openstack.exceptions.raise_from_response(answer)
        told = answer.json()["remote_console"]
        token = unquote(told["url"]).rpartition("token=")[2]
        base = trial.world.system.ready["base_url"].replace("http", "ws", 1)
        try:
            with connect(f"{base}/console/{protocol}?token={token}", open_timeout=SETTLE_SECONDS) as socket:
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
_IN_USE = "test_a_volume_in_use_is_copied_as_it_is_at_one_instant"
_INTERFACE = "test_interfaces_come_by_network_and_by_port_and_go"
_GROUPS = "test_a_group_is_given_to_a_server_and_taken_away"
_SCREEN = "test_what_is_typed_on_the_screen_is_answered_there"
_SERIAL = "test_a_line_on_the_serial_console_is_answered"
_REBOOT = "test_reboot_soft_and_hard"
_ADDRESSES = "test_addresses_come_and_go_as_typed"
_CHANGED = "test_what_changed_is_told_at_the_next_start"
_NO_ACTION = "test_what_has_no_action"
_PLACED = "test_members_are_placed_as_their_group_says"
_FIGURES = "test_the_figures_and_the_words_are_the_guests_own"
_INJECT: dict[str, Any] = {"injectNetworkInfo": None}
_GONE: dict[str, Any] = {"resetNetwork": None}

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
    Operation("lock, with a reason", _LOCK, simple("lock_server", "ACTIVE", locked_reason="not now")),
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
    Operation("swap volume", "test_a_volume_is_swapped_under_a_guest_that_uses_it", _swap_volume),
    Operation("extend volume", "test_volumes_beside_the_root_have_names_and_order", _extend_volume),
    Operation("snapshot of a volume in use", _IN_USE, _snapshot_in_use),
    Operation("detach volume", _VOLUME, _detach_volume),
    Operation("attach interface", _INTERFACE, _attach_interface),
    Operation("detach interface", _INTERFACE, _detach_interface),
    Operation("add security group", _GROUPS, _add_group),
    Operation("remove security group", _GROUPS, simple("remove_security_group_from_server", "ACTIVE", "trial")),
    Operation("add fixed address", _ADDRESSES, _add_address),
    Operation("remove fixed address", _ADDRESSES, _remove_address),
    Operation("rename, describe, hostname", _CHANGED, _rename),
    Operation("metadata", _CHANGED, _metadata),
    Operation("tags", _NO_ACTION, _tags, libvirt=YES),
    Operation("inject network info", _NO_ACTION, lambda trial: trial.act(_INJECT, admin=True), libvirt=YES),
    Operation("reset network (410, as in Nova)", _NO_ACTION, lambda trial: trial.act(_GONE, admin=True), libvirt=NO),
    Operation("key pair, user data, device tags", "test_a_server_that_boots_reads_all_that_its_owner_gave_it", _told),
    *(
        Operation(f"server group, {policy}", f"{_PLACED}[{policy}-{hosts}]", _group(policy, hosts))
        for policy, hosts in (("affinity", 1), ("anti-affinity", 2), ("soft-affinity", 1), ("soft-anti-affinity", 2))
    ),
    Operation("external events", "test_news_from_outside_reach_the_guest", _news),
    Operation("reset state", "test_its_end", _reset_state),
    Operation("diagnostics", _FIGURES, _ask("diagnostics")),
    Operation("console output", _FIGURES, _console_output),
    Operation("topology", _FIGURES, _ask("topology"), libvirt=YES),
    Operation("addresses, security groups listed", "test_what_is_listed_is_what_the_guest_has", _ask("ips")),
    Operation(
        "trigger crash dump",
        "test_a_crash_dump_makes_the_guest_panic",
        simple("trigger_server_crash_dump", "ACTIVE"),
    ),
    Operation("delete", "test_delete_leaves_a_true_history_and_nothing_else", lambda trial: trial.guest.delete()),
)


def tried(world: World) -> dict[str, str]:
    """Every operation on one server of a driver without real guests: whether it went through or was refused."""
    trial = Trial(world, world.create("trial"))
    seen = {}
    for operation in OPERATIONS:
        before = trial.guest.server.status
        try:
            operation.attempt(trial)
            seen[operation.name] = YES
        except (Refused, openstack.exceptions.SDKException):
            seen[operation.name] = NO
            assert trial.guest.server.status == before, operation.name
        if operation.name != "delete":
            trial.earlier = trial.newest_action()["request_id"]
    for circumstance in CIRCUMSTANCES:
        if not circumstance.hasty:
            seen[circumstance.what] = _outcome(circumstance, world)
    return seen


def tried_hastily(system: Running) -> dict[str, str]:
    """What comes by itself, beside each other: each waits for its time."""

    def outcome(circumstance: Circumstance) -> tuple[str, str]:
        with closing(World(system)) as world:
            return circumstance.what, _outcome(circumstance, world)

    hasty = [circumstance for circumstance in CIRCUMSTANCES if circumstance.hasty]
    with ThreadPoolExecutor(len(hasty)) as pool:
        return dict(pool.map(outcome, hasty))


def _outcome(circumstance: Circumstance, world: World) -> str:
    if circumstance.attempt is None:
        return NOTHING_TO_TRY
    try:
        circumstance.attempt(world)
    except (Refused, openstack.exceptions.SDKException):
        return NO
    return YES


HEAD = """# Operations and drivers

Written by the end-to-end suite (`pytest --write-operations tests/e2e`) from what that run has seen.

- **libvirt**: on a real QEMU guest; `inside` means that the named test looked inside the guest (console, guest agent)
  or, for what a guest cannot know, at its host; `yes` that neither can know of it, and the API showed it.
- **libvirt-test** (libvirt's own test driver, no guest) and **simulated**: `yes` means that the operation ended in
  the status it should and its history says success; `refused` that it ended with an error that says so, the server as
  it was; `needs a guest` that there is nothing to be tried without one. Security groups are kept there, but filter
  nothing.

"""
SECOND = "\n## In the middle, by itself, on volumes and networks\n\n"
TABLE = """| what | libvirt | libvirt-test | simulated | seen by |
|---|---|---|---|---|
"""


def document(seen: dict[str, dict[str, str]]) -> str:
    rows = [_row(one.name, one.proof, one.libvirt, seen) for one in OPERATIONS]
    others = [_row(one.what, one.proof, "inside", seen) for one in CIRCUMSTANCES]
    return HEAD + TABLE + "".join(rows) + SECOND + TABLE + "".join(others)


def _row(name: str, proof: str, libvirt: str, seen: dict[str, dict[str, str]]) -> str:
    cells = [
        name,
        libvirt if proof in PASSED else "not seen",
        *(seen[driver][name] for driver in DRIVERS),
        f"`{proof}`",
    ]
    return f"| {' | '.join(cells)} |\n"
