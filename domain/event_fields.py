"""Which fields of a server an event may change: what decisions, workflows and steps put into patches, as names.

Fields that no entry but the creation's has (`project_id`, `created_at`, ...) never change after it. A field that a
step, a finish or an acceptance begins to change is added here, or the audit finds an event that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping

from domain.machine import OBSERVED

Fields = frozenset[str]


def _names(of: str) -> Fields:
    return frozenset(of.split())


_LEFT_GUEST = _names("guest_exists generation left_guests")
_PLACE = _names("host host_id availability_zone")
_NETWORK = _names("interfaces security_groups")
_DEVICES = _NETWORK | {"volumes"}

# Every workflow: what an event of the phase may change whatever the command is.
_ANY_COMMAND: Mapping[str, Fields] = {
    "accepted": _names("vm_state task_state operation progress"),
    "step_started": _names("vm_state task_state operation progress generation guest_exists"),
    "step_finished": _names("power_state operation") | _LEFT_GUEST,
    "succeeded": _names("vm_state task_state power_state operation progress fault due"),
    "failed": _names("vm_state task_state operation progress fault due"),
    "reverted": _names("vm_state task_state operation progress fault due"),
    "cancelled": _names("task_state operation progress interfaces volumes"),
}

_ACCEPTED: Mapping[str, Fields] = {
    "create": _names(
        "name description project_id user_id power_state created_at flavor image_id image_properties key_name "
        "public_key user_data_id metadata tags config_drive hostname access_ip_v4 access_ip_v6 disk_config forced_host "
        "pinned_availability_zone instance_name reservation_id launch_index networks_requested block_devices "
        "root_tag security_groups server_group scheduler_hints"
    ),
    "delete": _LEFT_GUEST,
    "force-delete": _LEFT_GUEST,
    "rebuild": _names("image_id image_properties name metadata description key_name public_key user_data_id hostname"),
    "unshelve": _names("pinned_availability_zone forced_host"),
    "attach-volume": _names("volumes"),
    "swap-volume": _names("volumes"),
    "settle": _names("owed"),
}

_STEP_FINISHED: Mapping[str, Fields] = {
    "create": _PLACE | _DEVICES,
    "unshelve": _PLACE,
    "delete": _DEVICES | {"owed"},
    "force-delete": _DEVICES | {"owed"},
    "soft-delete": _DEVICES,
    "settle": _DEVICES | {"owed"},
    "attach-volume": _names("volumes"),
    "detach-volume": _names("volumes"),
    "swap-volume": _names("volumes"),
    "extend-volume": _names("volumes"),
    "attach-interface": _NETWORK,
    "detach-interface": _NETWORK,
}

_DELETED = _names("terminated_at guest_exists interfaces volumes locked_by resize owed")
_OFFLOADED = _names("host host_id guest_exists")
_SUCCEEDED: Mapping[str, Fields] = {
    "create": _names("launched_at"),
    "delete": _DELETED,
    "force-delete": _DELETED,
    "soft-delete": _names("soft_deleted_at"),
    "restore": _names("soft_deleted_at"),
    "rescue": _names("rescue_image_id"),
    "unrescue": _names("rescue_image_id"),
    "rebuild": _names("launched_at"),
    "resize": _names("resize flavor"),
    "confirm-resize": _names("resize"),
    "revert-resize": _names("resize flavor"),
    "shelve": _OFFLOADED | _names("shelved_image_id shelved_at"),
    "shelve-offload": _OFFLOADED,
    "unshelve": _names("shelved_image_id shelved_at launched_at guest_exists"),
    "settle": _names("owed guest_exists"),
}

_FAILED: Mapping[str, Fields] = {"shelve": _names("shelved_image_id shelved_at")}

_PHASES: Mapping[str, Mapping[str, Fields]] = {
    "accepted": _ACCEPTED,
    "step_finished": _STEP_FINISHED,
    "succeeded": _SUCCEEDED,
    "failed": _FAILED,
}

# Commands that are accepted and done in one commit.
_AT_ONCE: Mapping[str, Fields] = {
    "server.lock.succeeded": _names("locked_by locked_reason"),
    "server.unlock.succeeded": _names("locked_by locked_reason"),
    "server.update.succeeded": _names("name description hostname access_ip_v4 access_ip_v6 disk_config"),
    "server.metadata-set.succeeded": _names("metadata"),
    "server.metadata-delete.succeeded": _names("metadata"),
    "server.tags.succeeded": _names("tags"),
    "server.reset-state.accepted": _names("vm_state task_state due owed"),
    "server.reset-state.succeeded": _names("fault"),
    "server.add-security-group.succeeded": _names("security_groups"),
    "server.remove-security-group.succeeded": _names("security_groups"),
    "server.update-volume-attachment.succeeded": _names("volumes"),
    "server.refresh-network.succeeded": _names("interfaces"),
    "server.add-fixed-ip.succeeded": _names("interfaces"),
    "server.remove-fixed-ip.succeeded": _names("interfaces"),
    OBSERVED: _names("power_state vm_state due"),
}


def may_change(command: str, phase: str, *, workflow: bool) -> Fields:
    """The fields that an event may change. `workflow`: the command has steps, and is an open operation meanwhile."""
    if not workflow:
        return _AT_ONCE.get(f"server.{command}.{phase}", frozenset())
    return _ANY_COMMAND[phase] | _PHASES.get(phase, {}).get(command, frozenset())
