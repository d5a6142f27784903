"""Every workflow walks only along the machine: in success, in failure, in undo, in expiry, when superseded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from domain import decide
from domain.decide import Context, NewServer, StepOutcome
from domain.errors import Conflict, Forbidden, NotFound, Rejected
from domain.machine import BEFORE_CREATE, MACHINE
from domain.orders import Fault
from domain.server import (
    BlockDevice,
    FixedIp,
    FlavorSnapshot,
    Interface,
    ResizeRecord,
    Server,
    ServerEvent,
    VolumeAttachment,
    decode_event,
    decode_server,
    encode_body,
    encode_server,
    evolve,
)
from domain.workflows import WORKFLOWS

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FLAVOR = FlavorSnapshot(id="1", name="m1.nano", vcpus=1, ram=96, disk=1)
BIGGER = {"id": "2", "name": "m1.tiny", "vcpus": 2, "ram": 192, "disk": 1}
RESIZED = ResizeRecord(FLAVOR, msgspec.convert(BIGGER, FlavorSnapshot), "host-1", "host-1", "resize", "active", NOW)
PARAMS: dict[str, dict[str, Any]] = {
    "rescue": {"image": {"id": "image-1"}},
    "rebuild": {"image": {"id": "image-1"}},
    "resize": {"flavor": BIGGER},
    "create-image": {"image_id": "image-2", "name": "snap"},
    "create-backup": {"image_id": "image-2", "name": "b", "backup_type": "daily", "rotation": 1},
    "shelve": {"image_id": "image-2", "offload": True},
    "set-password": {"password": "x"},
    "attach-volume": {"volume": {"id": "volume-2", "path": "/v"}, "attachment_id": "a"},
    "detach-volume": {"volume_id": "volume-1", "volume": {"id": "volume-1", "path": "/v"}},
    "swap-volume": {"old": {"id": "volume-1", "path": "/v"}, "new": {"id": "volume-2", "path": "/w"}},
    "extend-volume": {"volume": {"id": "volume-1", "path": "/v"}, "size_gb": 2},
    "snapshot-volume": {"snapshots": [{"snapshot_id": "snapshot-1", "volume_id": "volume-1", "path": "/s"}]},
    "update-volume-attachment": {"volume_id": "volume-1", "delete_on_termination": True},
    "attach-interface": {"port_id": "port-2"},
    "detach-interface": {"port_id": "port-1"},
    "reset-state": {"state": "active"},
    "metadata-set": {"metadata": {"a": "b"}},
    "metadata-delete": {"key": "k"},
    "tags": {"tags": ["t"]},
    "update": {"name": "other"},
    "add-security-group": {"group": "web"},
    "remove-security-group": {"group": "default"},
}


def context(**changes: Any) -> Context:
    given: dict[str, Any] = {"now": NOW, "request_id": "req-1", "user_id": "u", "project_id": "p"}
    return Context(**(given | changes))


def server(vm_state: str = "active", **changes: Any) -> Server:
    """A server as it stands after a plain life, in a settled state."""
    power = {"active": "running", "paused": "paused", "suspended": "suspended", "rescued": "running"}
    given: dict[str, Any] = {
        "id": "5a0c2d7e-8f0e-4b52-9a58-111111111111",
        "version": 7,
        "project_id": "p",
        "user_id": "u",
        "vm_state": vm_state,
        "power_state": power.get(vm_state, "shutdown"),
        "flavor": FLAVOR,
        "image_id": "image-1",
        "host": "host-1",
        "guest_exists": True,
        "launched_at": NOW,
        "metadata": {"k": "v"},
        "config_drive": True,
        "security_groups": ("default",),
        "interfaces": (Interface("port-1", "net-1", "private", "fa:16:3e:00:00:01", (FixedIp("10.0.0.5", "sub-1"),)),),
        "volumes": (VolumeAttachment("att-1", "volume-1", "/dev/vdb"),),
    }
    if vm_state == "resized":
        given["resize"] = RESIZED
    if vm_state in ("shelved", "shelved_offloaded"):
        given["shelved_image_id"] = "image-3"
    if vm_state == "shelved_offloaded":
        given |= {"host": None, "guest_exists": False}
    if vm_state == "soft-delete":
        given["soft_deleted_at"] = NOW
    return Server(**(given | changes))


ROOT = VolumeAttachment("att-0", "volume-0", "/dev/vda", boot_index=0)
STABLE = {"image": {"id": "image-1", "properties": {"hw_rescue_bus": "virtio"}}}
VOLUME_BACKED_PARAMS = PARAMS | {
    "rescue": STABLE,
    "rebuild": {"image": {"id": "image-2"}, "reimage": True},
    "shelve": {"offload": False},
}
BACKED: dict[str, dict[str, Any]] = {
    "image": {},
    "volume": {
        "image_id": None,
        "shelved_image_id": None,
        "volumes": (ROOT, VolumeAttachment("att-1", "volume-1", "/dev/vdb")),
        "block_devices": (BlockDevice("image", "volume-0", "image-1", 1, 0),),
    },
}


def params_of(command: str, backed: str) -> dict[str, Any]:
    return (PARAMS if backed == "image" else VOLUME_BACKED_PARAMS).get(command, {})


def run(state: Server, events: list[ServerEvent]) -> Server:
    """Fold events, holding each against the machine and against its own encoding."""
    pair = (state.vm_state, state.task_state) if state.version else BEFORE_CREATE
    for event in events:
        assert decode_event(event.type, encode_body(event)) == event
        state = evolve(state, event, NOW)
        before, pair = pair, (state.vm_state, state.task_state)
        assert MACHINE.legal(event.type, before, pair), f"{event.type}: {before} -> {pair}"
    assert decode_server(encode_server(state)) == state
    return state


def finish(state: Server, fail_at: int | None = None, *, undo_fails: bool = False, unchanged: bool = False) -> Server:
    """Let every step succeed, except the `fail_at`-th; undo steps succeed unless `undo_fails`."""
    for count in range(40):
        operation = state.operation
        if operation is None:
            assert state.task_state is None
            return state
        if operation.stuck:
            return state
        failed = undo_fails if operation.undoing else count == fail_at
        patch = {"host": "host-2", "host_id": "h2"} if operation.step == "schedule" and not failed else {}
        outcome = StepOutcome(
            operation.step,
            not failed,
            patch=patch,
            fault=Fault("broken", "it broke") if failed else None,
            host=patch.get("host") or state.host,
            unchanged=unchanged,
        )
        state = run(state, decide.advance(state, outcome, NOW))
    raise AssertionError("the workflow does not end")


def settled_cells() -> list[tuple[str, str]]:
    states = ("active", "stopped", "paused", "suspended", "rescued", "resized", "soft-delete", "error", "shelved")
    return [
        (command, vm_state)
        for vm_state in (*states, "shelved_offloaded")
        for command in WORKFLOWS
        if command != "create" and MACHINE.accept(command, vm_state, None)
    ]


@pytest.mark.parametrize("backed", BACKED)
@pytest.mark.parametrize(("command", "vm_state"), settled_cells())
def test_a_workflow_ends_settled_whatever_happens(command: str, vm_state: str, backed: str) -> None:
    if (command, backed) == ("create-backup", "volume"):
        return  # refused: see test_domain_volumes
    start = server(vm_state, **BACKED[backed])
    accepted = run(start, decide.accept(start, command, params_of(command, backed), context()))
    done = finish(accepted)
    assert done.vm_state in MACHINE.outcome_vm_states(command, "succeeded") or done.vm_state == vm_state
    for fail_at in range(len(WORKFLOWS[command].steps)):
        for unchanged in (False, True):
            finish(accepted, fail_at, unchanged=unchanged)
        finish(accepted, fail_at, undo_fails=True)
    if accepted.operation is not None:
        late = accepted.operation.deadline + timedelta(seconds=1)
        ended = run(accepted, decide.expire(accepted, late))
        finish(ended)


def new_server() -> NewServer:
    return NewServer(
        id="5a0c2d7e-8f0e-4b52-9a58-222222222222",
        name="web",
        project_id="p",
        user_id="u",
        flavor=FLAVOR,
        hostname="web",
        instance_name="instance-1",
        reservation_id="r-1",
        image_id="image-1",
    )


def born() -> Server:
    return run(Server(id=new_server().id), decide.create(new_server(), context()))


def test_a_server_that_boots_from_a_volume_has_two_steps_more() -> None:
    new = msgspec.structs.replace(
        new_server(), image_id=None, block_devices=(BlockDevice("image", source_id="image-1", size_gb=1, boot_index=0),)
    )
    state = run(Server(id=new.id), decide.create(new, context()))
    assert state.volume_backed
    assert state.block_devices[0].volume_id, "it has its name before it is made"
    seen = []
    while state.operation is not None:
        seen.append((state.operation.step, state.task_state))
        patch = {"host": "host-1"} if state.operation.step == "schedule" else {}
        state = run(state, decide.advance(state, StepOutcome(state.operation.step, True, patch=patch), NOW))
    assert seen[2] == ("create_volumes", "block_device_mapping")
    assert seen[-1] == ("record_volumes", "spawning")
    assert state.vm_state == "active"


def test_create_walks_to_active() -> None:
    state = born()
    assert (state.vm_state, state.task_state) == ("building", "scheduling")
    seen = []
    while state.operation is not None:
        seen.append((state.operation.step, state.task_state))
        patch = {"host": "host-1"} if state.operation.step == "schedule" else {}
        outcome = StepOutcome(state.operation.step, True, patch=patch, host=state.host)
        state = run(state, decide.advance(state, outcome, NOW))
    assert seen == [
        ("schedule", "scheduling"),
        ("create_ports", "networking"),
        ("create_disk", "block_device_mapping"),
        ("config_drive", "block_device_mapping"),
        ("spawn", "spawning"),
    ]
    assert (state.vm_state, state.power_state, state.launched_at) == ("active", "running", NOW)


@pytest.mark.parametrize("fail_at", range(5))
def test_a_failed_build_is_tried_elsewhere_or_ends_in_error(fail_at: int) -> None:
    after_one = finish(born(), fail_at)
    assert after_one.vm_state == ("error" if fail_at == 0 else "active")
    state = born()
    for _ in range(60):
        if state.operation is None:
            break
        fails = state.operation.step == "spawn"
        patch = {"host": "host-1"} if state.operation.step == "schedule" else {}
        outcome = StepOutcome(state.operation.step, not fails, patch=patch, fault=Fault("x", "no") if fails else None)
        state = run(state, decide.advance(state, outcome, NOW))
    assert state.vm_state == "error"
    assert state.fault is not None
    assert state.fault.message == "no"
    assert not state.guest_exists
    assert state.operation is None


def test_a_resize_is_not_confirmed_while_its_host_is_down() -> None:
    with pytest.raises(Conflict, match="Service is unavailable at this time"):
        decide.accept(server("resized"), "confirm-resize", {}, context(host_up=False))
    assert decide.accept(server("resized"), "confirm-resize", {}, context())


def test_a_volume_is_not_let_go_while_the_host_is_down() -> None:
    detach: dict[str, Any] = {"volume_id": "volume-1"}
    with pytest.raises(Conflict, match="Service is unavailable at this time"):
        decide.accept(server(), "detach-volume", detach, context(host_up=False))
    assert decide.accept(server("shelved_offloaded"), "detach-volume", detach, context(host_up=False))


def test_what_a_host_can_not_finish_is_not_begun() -> None:
    lacks = context(host_lacks=frozenset({"snapshot", "resize"}))
    image: dict[str, Any] = {"image_id": "image-1", "name": "left"}
    with pytest.raises(Conflict, match="can not do snapshot, which shelve needs") as refused:
        decide.accept(server(), "shelve", image, lacks)
    assert refused.value.reason == "unsupported"
    assert decide.accept(server(), "create-image", image, lacks)  # its first order tells it, and changes nothing
    on_a_volume = server(image_id=None, volumes=(ROOT,))
    assert decide.accept(on_a_volume, "shelve", {}, lacks)  # no image is made of a volume
    assert decide.accept(server(), "shelve", image, context())


def test_what_a_host_can_not_finish_of_what_was_asked_for_is_not_begun() -> None:
    lacks = context(host_lacks=frozenset({"offload"}))
    image: dict[str, Any] = {"image_id": "image-1", "name": "left"}
    on_a_volume = server(image_id=None, volumes=(ROOT,))
    for one, params in ((server(), image | {"offload": True}), (on_a_volume, {})):
        with pytest.raises(Conflict, match="can not do offload, which shelve needs"):
            decide.accept(one, "shelve", params, lacks)
    assert decide.accept(server(), "shelve", image | {"offload": False}, lacks)


@pytest.mark.parametrize("command", ["delete", "force-delete"])
def test_delete_is_legal_at_every_step_of_every_workflow(command: str) -> None:
    starts = [born()]
    for other, vm_state in settled_cells():
        start = server(vm_state)
        starts.append(run(start, decide.accept(start, other, PARAMS.get(other, {}), context())))
    for start in starts:
        state = start
        while state.operation is not None and state.operation.command not in ("delete", "force-delete"):
            gone = finish(run(state, decide.accept(state, command, {}, context(request_id="req-2"))))
            assert gone.vm_state == "deleted"
            patch = {"host": "host-1"} if state.operation.step == "schedule" else {}
            state = run(state, decide.advance(state, StepOutcome(state.operation.step, True, patch=patch), NOW))


def test_reset_state_cancels_what_is_open_and_says_so() -> None:
    start = server()
    stopping = run(start, decide.accept(start, "stop", {}, context()))
    events = decide.accept(stopping, "reset-state", {"state": "error"}, context(request_id="req-2", is_admin=True))
    assert [event.type for event in events] == [
        "server.stop.cancelled",
        "server.reset-state.accepted",
        "server.reset-state.succeeded",
    ]
    state = run(stopping, events)
    assert (state.vm_state, state.task_state, state.operation) == ("error", None, None)


RESET = context(request_id="req-3", is_admin=True)


@pytest.mark.parametrize("ended_before", [False, True])
def test_a_reset_takes_off_the_server_the_interface_that_is_given_back(ended_before: bool) -> None:
    start = server()
    state = run(start, decide.accept(start, "attach-interface", PARAMS["attach-interface"], context()))
    added = (*start.interfaces, Interface("port-2", "net-1", "private", "fa:16:3e:00:00:02", ()))
    state = run(state, decide.advance(state, StepOutcome("allocate_port", True, patch={"interfaces": added}), NOW))
    assert state.interfaces == added
    if ended_before:
        state = run(state, decide.accept(state, "delete", {}, context(request_id="req-2")))
    state = run(state, decide.accept(state, "reset-state", {"state": "active"}, RESET))
    assert (state.interfaces, state.operation) == (start.interfaces, None)


def test_a_reset_leaves_a_build_no_volumes_that_are_given_back() -> None:
    new = msgspec.structs.replace(
        new_server(), image_id=None, block_devices=(BlockDevice("image", source_id="image-1", size_gb=1, boot_index=0),)
    )
    state = run(Server(id=new.id), decide.create(new, context()))
    for step, patch in (
        ("schedule", {"host": "host-1"}),
        ("create_ports", {}),
        ("create_volumes", {"volumes": (ROOT,)}),
    ):
        state = run(state, decide.advance(state, StepOutcome(step, True, patch=patch), NOW))
    assert state.volumes == (ROOT,)
    state = run(state, decide.accept(state, "reset-state", {"state": "error"}, RESET))
    assert (state.volumes, state.operation) == ((), None)


@pytest.mark.parametrize("ended", ["cancelled", "failed"])
def test_what_ended_early_shows_no_progress(ended: str) -> None:
    start = server()
    state = run(start, decide.accept(start, "create-backup", PARAMS["create-backup"], context()))
    while (operation := state.operation) is not None and operation.awaits != "agent":
        state = run(state, decide.advance(state, StepOutcome(operation.step, True), NOW))
    assert operation is not None
    state = run(state, decide.progress(state, operation.step, 40, "copy disk", NOW))
    assert state.progress == 40
    if ended == "cancelled":
        events = decide.accept(state, "reset-state", {"state": "active"}, context(request_id="req-2", is_admin=True))
    else:
        events = decide.advance(state, StepOutcome(operation.step, False, fault=Fault("x", "no"), unchanged=True), NOW)
    state = finish(run(state, events))
    assert (state.operation, state.progress) == (None, 0)


def test_commands_at_once_leave_an_open_operation_alone() -> None:
    start = server()
    stopping = run(start, decide.accept(start, "stop", {}, context()))
    locked = run(stopping, decide.accept(stopping, "lock", {"reason": "mine"}, context(request_id="req-2")))
    assert locked.locked
    assert locked.operation == stopping.operation
    assert finish(locked).vm_state == "stopped"


@pytest.mark.parametrize("command", sorted(decide.INSTANT))
def test_commands_at_once_are_satisfied_the_second_time(command: str) -> None:
    start = server(vm_state="active")
    params = PARAMS.get(command, {})
    state = run(start, decide.accept(start, command, params, context(is_admin=True)))
    repeatable = ("lock", "unlock", "reset-state", "inject-network-info", "refresh-network")
    if command not in repeatable and not command.startswith(("metadata-delete", "remove-")):
        assert decide.accept(state, command, params, context()) == []


def test_an_open_operation_refuses_the_next_with_the_late_callers_sentence() -> None:
    start = server()
    stopping = run(start, decide.accept(start, "stop", {}, context()))
    with pytest.raises(Conflict) as refusal:
        decide.accept(stopping, "pause", {}, context())
    assert refusal.value.message == f"Cannot 'pause' instance {start.id} while it is in task_state powering-off"


def test_operations_without_a_task_state_are_serialised_too() -> None:
    start = server(vm_state="resized")
    confirming = run(start, decide.accept(start, "confirm-resize", {}, context()))
    with pytest.raises(Conflict) as refusal:
        decide.accept(confirming, "revert-resize", {}, context())
    assert refusal.value.reason == "busy"


@pytest.mark.parametrize("vm_state", ["active", "stopped"])
def test_a_resize_that_was_taken_back_whole_leaves_the_server_as_it_was(vm_state: str) -> None:
    start = server(vm_state=vm_state)
    state = run(start, decide.accept(start, "resize", PARAMS["resize"], context()))
    while state.operation is not None:
        fails = state.operation.step == "resize"
        fault = Fault("no_disk_space", "full") if fails else None
        outcome = StepOutcome(state.operation.step, not fails, fault=fault)
        state = run(state, decide.advance(state, outcome, NOW))
    assert (state.vm_state, state.task_state, state.flavor) == (vm_state, None, start.flavor)
    assert state.fault is not None


def test_stale_outcomes_change_nothing() -> None:
    start = server()
    assert decide.advance(start, StepOutcome("power_off", True), NOW) == []
    stopping = run(start, decide.accept(start, "stop", {}, context()))
    assert decide.advance(stopping, StepOutcome("spawn", True), NOW) == []


def test_a_guest_that_powers_itself_off_is_stopped_with_the_reason() -> None:
    start = server()
    events = decide.observe(start, "shutdown", "guest powered itself off", "req-9", NOW)
    state = run(start, events)
    assert (state.vm_state, state.power_state) == ("stopped", "shutdown")
    assert events[0].body.message == "guest powered itself off"
    assert decide.observe(state, "shutdown", "again", "req-10", NOW) == []


def test_a_guest_that_runs_behind_our_back_is_stopped() -> None:
    start = server(vm_state="stopped")
    state = run(start, decide.observe(start, "running", "started by hand", "req-9", NOW))
    assert decide.runs_though_stopped(state)
    state = finish(run(state, decide.accept(state, "power-sync", {}, context(is_admin=True))))
    assert state.vm_state == "stopped"


def test_generations_only_grow() -> None:
    state = start = server()
    for command in ("stop", "start", "pause", "unpause", "suspend", "resume", "reboot-hard"):
        accepted = run(state, decide.accept(state, command, {}, context()))
        assert accepted.generation == state.generation + 1
        state = finish(accepted)
    assert state.generation > start.generation


def test_a_failed_undo_is_stuck_until_an_operator_resolves_it() -> None:
    start = server()
    accepted = run(start, decide.accept(start, "resize", PARAMS["resize"], context()))
    stuck = finish(accepted, 3, undo_fails=True)
    assert stuck.operation is not None
    assert stuck.operation.stuck
    for how in ("retry", "skip", "abandon"):
        assert finish(run(stuck, decide.resolve_stuck(stuck, how, context()))).operation is None
    late = stuck.operation.deadline + timedelta(seconds=1)
    assert run(stuck, decide.expire(stuck, late)).operation is None


def test_deleted_servers_are_not_found() -> None:
    gone = server(vm_state="deleted")
    for command in ("stop", "lock", "delete", "reset-state"):
        with pytest.raises(NotFound):
            decide.accept(gone, command, PARAMS.get(command, {}), context(is_admin=True))


def test_a_locked_server_refuses_its_owner_but_not_an_admin() -> None:
    locked = server(locked_by="admin")
    with pytest.raises(Rejected, match="is locked"):
        decide.accept(locked, "stop", {}, context())
    assert decide.accept(locked, "stop", {}, context(is_admin=True))


def test_what_an_admin_locked_its_owner_cannot_unlock() -> None:
    locked = server(locked_by="admin")
    with pytest.raises(Forbidden, match="unlock_override"):
        decide.accept(locked, "unlock", {}, context())
    assert decide.accept(locked, "unlock", {}, context(is_admin=True))


def test_what_an_admin_locked_its_owner_cannot_make_his_own_lock() -> None:
    assert decide.accept(server(locked_by="admin"), "lock", {}, context()) == []


def test_delete_with_the_host_down_does_not_wait_for_it() -> None:
    start = server()
    events = decide.accept(start, "delete", {}, context(host_up=False))
    state = finish(run(start, events))
    assert state.vm_state == "deleted"
    assert all(event.body.step != "destroy" for event in events)
