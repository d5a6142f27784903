"""What each accepted command does, as a list of steps; the machine says whether it may begin, this says how it goes on.

A step is carried out by an agent (`order`) or by the conductor (`control`). `task_state` is shown while it runs,
`event` is Nova's name of it in the history (consecutive steps of one event are one row there), `undo` names what takes
it back when a later step fails. A step whose `when` is false is skipped. Steps run in order; the conductor continues
from the log, so every step must bear being done twice.

`finish` gives the patch of the last event: the state that success leads to (`domain.workflow_finishes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domain.orders import OrderKind
from domain.server import Server
from domain.workflow import KEEP, UNDO, Finish, Step, Undo, Workflow, has_guest, unchanged
from domain.workflow_finishes import (
    confirmed,
    created,
    deleted,
    offloaded,
    offloads_at_once,
    powered,
    rebuilt,
    rescued,
    resized,
    restored,
    reverted,
    shelved,
    soft_deleted,
    unrescued,
    unshelved,
)
from domain.workflows_settling import SETTLE, owes
from domain.workflows_volumes import VOLUME_WORKFLOWS

__all__ = ["KEEP", "UNDO", "WORKFLOWS", "Step", "Undo", "Workflow"]

# What follows by itself where a deployment sets a time for it (`Context.due_after`).
FOLLOWERS = {"soft-delete": "force-delete", "shelve": "shelve-offload", "resize": "confirm-resize"}


def _may_have_ports(server: Server) -> bool:
    """What a build took that was ended before it could say so counts, too."""
    return bool(server.interfaces) or (server.launched_at is None and server.networks_requested != ())


def _was_stopped(server: Server) -> bool:
    return server.operation is not None and server.operation.vm_state_before == "stopped"


def _is_offloaded(server: Server) -> bool:
    return server.vm_state == "shelved_offloaded"


def _comes_back_from_image(server: Server) -> bool:
    return _is_offloaded(server) and not server.volume_backed


def _is_on_host(server: Server) -> bool:
    return server.vm_state == "shelved"


def _has_shelve_image(server: Server) -> bool:
    return server.shelved_image_id is not None


def _superseded_took(server: Server) -> bool:
    return server.operation is not None and "superseded" in server.operation.params


def taken_by(command: str, params: dict[str, Any], done: Sequence[str]) -> dict[str, Any] | None:
    """What an operation that is ended in its middle took in the control plane: what giving it back needs to know."""
    if "superseded" in params and "give_back" not in done:
        earlier: dict[str, Any] = params["superseded"]
        return earlier
    steps = WORKFLOWS[command].steps
    undos = {step.undo for step in steps if step.undo is not None and UNDO[step.undo].gives_back}
    if not undos or any(step.settles for step in steps if step.name in done):
        return None  # nothing, or it is whole and stays
    return {"command": command, "undos": sorted(undos), "params": params}


def _has_volumes(server: Server) -> bool:
    return bool(server.volumes or server.block_devices)


def _is_image_backed(server: Server) -> bool:
    return not server.volume_backed


def _is_volume_backed(server: Server) -> bool:
    return server.volume_backed


def _gets_new_content(server: Server) -> bool:
    return server.volume_backed and server.operation is not None and bool(server.operation.params.get("reimage"))


def _single(
    command: str,
    order: OrderKind,
    event: str,
    finish: Finish,
    *,
    undo: str | None = None,
) -> Workflow:
    return Workflow(command, (Step(order, order=order, event=event, undo=undo),), finish)


_BUILD = "compute__do_build_and_run_instance"
_TERMINATE = "compute_terminate_instance"
_SOFT_DELETE = "compute_soft_delete_instance"

_SPAWN_STEPS = (
    Step("create_disk", order="create_disk", task_state="block_device_mapping", event=_BUILD, undo="destroy"),
    # Always: it is how an address, a key and user data reach a guest here, where there is no metadata service.
    Step("config_drive", order="config_drive", event=_BUILD, undo="destroy"),
    Step("spawn", order="spawn", task_state="spawning", event=_BUILD, undo="destroy"),
)

_GIVE_BACK = Step("give_back", control="give_back", when=_superseded_took)

_DELETE_STEPS = (
    Step("destroy", order="destroy", event=_TERMINATE, when=has_guest),
    Step("delete_ports", control="delete_ports", when=_may_have_ports),
    _GIVE_BACK,
    Step("give_back_owed", control="give_back_owed", when=owes),
    Step("detach_volumes", control="detach_volumes", when=_has_volumes),
    Step("delete_shelved_image", control="delete_shelved_image", when=_has_shelve_image),
)

_RESIZE_STEPS = (
    Step("claim", control="claim_resize", event="conductor_migrate_server"),
    Step("prepare", control="prepare_resize", event="cold_migrate"),
    Step("prepare_host", control="prepare_host", event="compute_prep_resize"),
    Step(
        "resize", order="resize", task_state="resize_migrating", event="compute_resize_instance", undo="resize_revert"
    ),
    Step("finish", control="finish_resize", task_state="resize_finish", event="compute_finish_resize"),
)

WORKFLOWS: dict[str, Workflow] = {
    workflow.command: workflow
    for workflow in (
        Workflow(
            "create",
            (
                Step(
                    "schedule",
                    control="schedule",
                    failed_event="conductor_schedule_and_build_instances",
                    undo="release_host",
                ),
                Step(
                    "create_ports", control="create_ports", task_state="networking", event=_BUILD, undo="delete_ports"
                ),
                Step(
                    "create_volumes",
                    control="create_volumes",
                    task_state="block_device_mapping",
                    event=_BUILD,
                    undo="delete_volumes",
                    when=_has_volumes,
                ),
                *_SPAWN_STEPS,
                Step("record_volumes", control="record_volumes", event=_BUILD, when=_has_volumes, settles=True),
            ),
            created,
        ),
        Workflow("delete", _DELETE_STEPS, deleted),
        Workflow("force-delete", _DELETE_STEPS, deleted),
        SETTLE,
        Workflow(
            "soft-delete",
            (Step("power_off", order="power_off", event=_SOFT_DELETE, when=has_guest), _GIVE_BACK),
            soft_deleted,
        ),
        Workflow(
            "restore",
            (Step("power_on", order="power_on", event="compute_restore_instance", when=has_guest),),
            restored,
        ),
        _single("start", "power_on", "compute_start_instance", powered("active", "running")),
        _single("stop", "power_off", "compute_stop_instance", powered("stopped", "shutdown")),
        _single("power-sync", "power_off", "compute_stop_instance", powered("stopped", "shutdown")),
        _single("reboot-soft", "reboot_soft", "compute_reboot_instance", powered("active", "running")),
        _single("reboot-hard", "reboot_hard", "compute_reboot_instance", powered("active", "running")),
        _single("pause", "pause", "compute_pause_instance", powered("paused", "paused")),
        _single("unpause", "unpause", "compute_unpause_instance", powered("active", "running")),
        _single("suspend", "suspend", "compute_suspend_instance", powered("suspended", "suspended")),
        _single("resume", "resume", "compute_resume_instance", powered("active", "running")),
        _single("rescue", "rescue", "compute_rescue_instance", rescued),
        _single("unrescue", "unrescue", "compute_unrescue_instance", unrescued),
        Workflow(
            "rebuild",
            (
                Step("prepare", control="prepare_rebuild", event="rebuild_server"),
                Step("rebuild", order="rebuild", task_state="rebuild_spawning", event="compute_rebuild_instance"),
                Step(
                    "record_content",
                    control="record_content",
                    event="compute_rebuild_instance",
                    when=_gets_new_content,
                ),
                Step(
                    "power_off",
                    order="power_off",
                    task_state="powering-off",
                    vm_state="active",
                    event="compute_stop_instance",
                    when=_was_stopped,
                ),
            ),
            rebuilt,
        ),
        Workflow("resize", _RESIZE_STEPS, resized),
        _single("confirm-resize", "resize_confirm", "compute_confirm_resize", confirmed),
        Workflow(
            "revert-resize",
            (
                Step("prepare", control="prepare_revert", event="compute_revert_resize"),
                Step("resize_revert", order="resize_revert", event="compute_finish_revert_resize"),
            ),
            reverted,
        ),
        Workflow(
            "shelve",
            (
                Step("power_off", order="power_off", event="compute_shelve_instance", undo="discard_image"),
                Step("begin_image", control="begin_image", event="compute_shelve_instance", when=_is_image_backed),
                Step(
                    "snapshot",
                    order="snapshot",
                    task_state="shelving_image_uploading",
                    event="compute_shelve_instance",
                    undo="discard_image",
                    when=_is_image_backed,
                ),
                Step(
                    "publish_image",
                    control="publish_image",
                    event="compute_shelve_instance",
                    when=_is_image_backed,
                    settles=True,
                ),
                Step(
                    "offload",
                    order="offload",
                    task_state="shelving_offloading",
                    vm_state="shelved",
                    event="compute_shelve_instance",
                    when=offloads_at_once,
                ),
            ),
            shelved,
        ),
        _single("shelve-offload", "offload", "compute_shelve_offload_instance", offloaded),
        Workflow(
            "unshelve",
            (
                Step(
                    "power_on",
                    order="power_on",
                    task_state="powering-on",
                    event="compute_start_instance",
                    when=_is_on_host,
                ),
                Step("find_image", control="find_shelved_image", event="get_image_info", when=_comes_back_from_image),
                Step(
                    "schedule",
                    control="schedule",
                    event="schedule_instances",
                    undo="release_host",
                    when=_is_offloaded,
                ),
                Step(
                    "create_disk",
                    order="create_disk",
                    task_state="spawning",
                    event="compute_unshelve_instance",
                    undo="destroy",
                    when=_is_offloaded,
                ),
                Step(
                    "config_drive",
                    order="config_drive",
                    event="compute_unshelve_instance",
                    undo="destroy",
                    when=_is_offloaded,
                ),
                Step(
                    "spawn",
                    order="spawn",
                    event="compute_unshelve_instance",
                    undo="destroy",
                    when=_is_offloaded,
                ),
                Step("delete_shelved_image", control="delete_shelved_image", when=_has_shelve_image),
            ),
            unshelved,
        ),
        Workflow(
            "create-image",
            (
                Step(
                    "create_snapshots",
                    control="create_snapshots",
                    event="api_snapshot_instance",
                    undo="discard_snapshots",
                    when=_is_volume_backed,
                    keeps_result=True,
                ),
                Step(
                    "snapshot_volumes",
                    order="snapshot_volumes",
                    event="api_snapshot_instance",
                    undo="discard_snapshots",
                    when=_is_volume_backed,
                ),
                Step(
                    "publish_snapshots",
                    control="publish_snapshots",
                    event="api_snapshot_instance",
                    when=_is_volume_backed,
                    settles=True,
                ),
                Step(
                    "begin_image",
                    control="begin_image",
                    event="compute_snapshot_instance",
                    undo="discard_image",
                    when=_is_image_backed,
                ),
                Step(
                    "snapshot",
                    order="snapshot",
                    event="compute_snapshot_instance",
                    undo="discard_image",
                    when=_is_image_backed,
                ),
                Step(
                    "publish_image",
                    control="publish_image",
                    task_state="image_uploading",
                    event="compute_snapshot_instance",
                    when=_is_image_backed,
                    settles=True,
                ),
            ),
            unchanged,
        ),
        Workflow(
            "create-backup",
            (
                Step("begin_image", control="begin_image", event="compute_backup_instance", undo="discard_image"),
                Step("snapshot", order="snapshot", event="compute_backup_instance", undo="discard_image"),
                Step(
                    "publish_image",
                    control="publish_image",
                    task_state="image_uploading",
                    event="compute_backup_instance",
                    settles=True,
                ),
                Step("rotate_backups", control="rotate_backups", event="compute_backup_instance"),
            ),
            unchanged,
        ),
        _single("set-password", "set_password", "compute_set_admin_password", unchanged),
        _single("trigger-crash-dump", "crash_dump", "compute_trigger_crash_dump", unchanged),
        *VOLUME_WORKFLOWS,
        Workflow(
            "attach-interface",
            (
                Step(
                    "allocate_port", control="allocate_port", event="compute_attach_interface", undo="release_interface"
                ),
                Step("attach_interface", order="attach_interface", event="compute_attach_interface"),
            ),
            unchanged,
        ),
        Workflow(
            "detach-interface",
            (
                Step("detach_interface", order="detach_interface", event="compute_detach_interface"),
                Step("forget_interface", control="forget_interface", event="compute_detach_interface"),
            ),
            unchanged,
        ),
    )
}
