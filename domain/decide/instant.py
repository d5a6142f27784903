"""Commands that are accepted and done in one commit: lock, rename, metadata, tags, reset-state and the like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from domain.decide.context import Context, Decision
from domain.decide.running import cancel_open, public
from domain.errors import Conflict, Forbidden, Invalid, NotFound
from domain.machine import MACHINE
from domain.machine.refusal import no_host
from domain.server import LOOK, Due, FixedIp, Server, ServerEvent, ServerFault
from domain.settling import owed_by


def _at_once(
    server: Server, command: str, context: Context, patch: dict[str, Any], details: dict[str, Any] | None = None
) -> list[ServerEvent]:
    decision = Decision(server, context.now)
    rule = MACHINE.rule(command)
    event = rule.events[0] if rule.events else None
    decision.add(command, "accepted", context.request_id, {}, details=details or {})
    decision.add(command, "succeeded", context.request_id, patch, event=event, host=server.host)
    return decision.events


def _lock(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    owner = context.project_id == server.project_id
    if server.locked and owner:
        return []  # also one that an administrator locked: else its owner could make the lock his own, and open it
    by = "owner" if owner else "admin"
    patch = {"locked_by": by, "locked_reason": params.get("reason")}
    return _at_once(server, "lock", context, patch, {"reason": params.get("reason")})


def must_be_ones_own_lock(server: Server, context: Context) -> None:
    """Refuse to open what an administrator locked."""
    if server.locked_by == "admin" and not context.is_admin:
        raise Forbidden(
            "Policy doesn't allow os_compute_api:os-lock-server:unlock:unlock_override to be performed.",
            hint="An administrator locked this server; ask one to unlock it.",
        )


def _unlock(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    must_be_ones_own_lock(server, context)
    return _at_once(server, "unlock", context, {"locked_by": None, "locked_reason": None})


def must_be_on_a_host(server: Server, _: Context) -> None:
    """Refuse what Nova hands to the server's host without a look at the state: on none, Nova fails with a 500."""
    if server.host is None:
        refusal = no_host(MACHINE.rule("inject-network-info"))
        raise Conflict(refusal.text(server.id), hint=refusal.hint, reason=refusal.reason, code=refusal.code)


_UPDATABLE = ("name", "description", "hostname", "access_ip_v4", "access_ip_v6", "disk_config")


def _update(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    patch = {key: params[key] for key in _UPDATABLE if key in params and params[key] != getattr(server, key)}
    if not patch:
        return []
    before = {key: getattr(server, key) for key in patch}
    return _at_once(server, "update", context, patch, {"before": before, "after": patch})


MAX_METADATA = 128


def _metadata_set(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    wanted: dict[str, str] = params["metadata"] if params.get("replace") else server.metadata | params["metadata"]
    if len(wanted) > MAX_METADATA:
        raise Invalid(
            f"Maximum number of metadata items exceeds {MAX_METADATA}",
            hint="Delete some first.",
            code=403,
            reason="quota",
        )
    if wanted == server.metadata:
        return []
    return _at_once(server, "metadata-set", context, {"metadata": wanted}, {"before": server.metadata, "after": wanted})


def _metadata_delete(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    key = params["key"]
    if key not in server.metadata:
        raise NotFound("Metadata item was not found", hint="The server's metadata lists the keys that it has.")
    rest = {name: value for name, value in server.metadata.items() if name != key}
    return _at_once(server, "metadata-delete", context, {"metadata": rest}, {"key": key})


MAX_TAGS = 50


def _tags(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    wanted = tuple(dict.fromkeys(params["tags"]))
    if len(wanted) > MAX_TAGS:
        raise Invalid(f"The number of tags exceeded the per-server limit {MAX_TAGS}", hint="Remove some first.")
    if wanted == server.tags:
        return []
    return _at_once(server, "tags", context, {"tags": wanted}, {"before": [*server.tags], "after": [*wanted]})


def _reset_state(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    vm_state = params["state"]
    if vm_state not in ("active", "error"):
        raise Invalid(f"'{vm_state}' is not one of ['active', 'error']", hint="A state is set to one of these two.")
    decision = Decision(server, context.now)
    owed = None if server.operation is None else owed_by(server, server.operation)
    cancel_open(decision, "ended by reset-state", context.request_id, for_good=True)
    before = {"vm_state": server.vm_state, "task_state": server.task_state}
    moved: dict[str, Any] = {"vm_state": vm_state, "task_state": None, "due": Due(LOOK, context.now)}
    if owed is not None:
        moved["owed"] = (*server.owed, owed)
    decision.add("reset-state", "accepted", context.request_id, moved, details={"before": before, "after": vm_state})
    patch: dict[str, Any] = {}
    if vm_state == "error" and server.fault is None:
        message = f"An administrator set the state to error (request {context.request_id})"
        patch["fault"] = ServerFault(code=500, message=message, created=context.now, reason="reset_state")
    decision.add("reset-state", "succeeded", context.request_id, patch)
    return decision.events


def _security_group(command: str) -> Any:
    def decide(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
        group = params["group"]
        present = group in server.security_groups
        if command == "add-security-group":
            if present:
                return []
            groups = (*server.security_groups, group)
        else:
            if not present:
                message = f"Security group {group} not associated with the instance {server.id}"
                raise NotFound(message, hint="The server shows the groups that it has.")
            groups = tuple(name for name in server.security_groups if name != group)
        return _at_once(server, command, context, {"security_groups": groups}, {"group": group})

    return decide


def _addresses(command: str) -> Any:
    """The addresses of one port of the server, which have changed; `fixed_ips` are all that it has now."""

    def decide(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
        now = tuple(msgspec.convert(one, FixedIp) for one in params.get("fixed_ips", ()))
        changed = tuple(
            msgspec.structs.replace(one, fixed_ips=now) if one.port_id == params.get("port_id") else one
            for one in server.interfaces
        )
        if changed == server.interfaces and command != "refresh-network":
            return []
        return _at_once(server, command, context, {"interfaces": changed}, public(params))

    return decide


def _update_attachment(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    """Whether a volume goes with its server. Nova lets nothing else of an attachment be changed."""
    attachment = server.attachment(params["volume_id"])
    if attachment is None:
        raise NotFound(
            f"Instance {server.id} is not attached to volume {params['volume_id']}",
            hint="The server's os-volume_attachments lists its volumes.",
        )
    goes = bool(params["delete_on_termination"])
    if attachment.delete_on_termination == goes:
        return []
    changed = msgspec.structs.replace(attachment, delete_on_termination=goes)
    volumes = tuple(changed if one is attachment else one for one in server.volumes)
    details = {"volume_id": attachment.volume_id, "delete_on_termination": goes}
    return _at_once(server, "update-volume-attachment", context, {"volumes": volumes}, details)


def _inject_network_info(server: Server, params: dict[str, Any], context: Context) -> list[ServerEvent]:
    """Nothing to do: a guest's config drive follows its addresses by itself."""
    must_be_on_a_host(server, context)
    return _at_once(server, "inject-network-info", context, {}, public(params))


# What a command asks besides the machine, of the server alone.
ASKED_BESIDES: dict[str, Callable[[Server, Context], None]] = {
    "unlock": must_be_ones_own_lock,
    "inject-network-info": must_be_on_a_host,
}

INSTANT: dict[str, Any] = {
    "lock": _lock,
    "unlock": _unlock,
    "update": _update,
    "metadata-set": _metadata_set,
    "metadata-delete": _metadata_delete,
    "tags": _tags,
    "reset-state": _reset_state,
    "add-security-group": _security_group("add-security-group"),
    "remove-security-group": _security_group("remove-security-group"),
    "update-volume-attachment": _update_attachment,
    "inject-network-info": _inject_network_info,
    "refresh-network": _addresses("refresh-network"),
    "add-fixed-ip": _addresses("add-fixed-ip"),
    "remove-fixed-ip": _addresses("remove-fixed-ip"),
}
