"""Refused changes that the command side did not record itself: quota, policy, references that nothing has.

Whatever turns a refusal into an answer notes it in the request's state; when the answer is out, the outermost
middleware hands it here. So every change that a known caller was refused is recorded once, and no answer waits for it.
What is told again under an Idempotency-Key, or was only tried, is not recorded.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from api.auth import Caller
from commands.context import CommandContext
from commands.rejections import record
from domain.errors import Rejected

if TYPE_CHECKING:
    from api.services import Services

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_TRIED = re.compile(rb"(^|&)dry_run=(true|1|yes|on|t|y)(&|$)", re.IGNORECASE)
_PARTS = {
    "os-volume_attachments": {"POST": "attach-volume", "DELETE": "detach-volume", "PUT": "update-volume-attachment"},
    "os-interface": {"POST": "attach-interface", "DELETE": "detach-interface"},
    "tags": dict.fromkeys(("PUT", "DELETE"), "tags"),
    "metadata": {"POST": "metadata-set", "PUT": "metadata-set", "DELETE": "metadata-delete"},
    "remote-consoles": {"POST": "remote-console"},
}
"""What is done to a part of a server is a command of the server."""
_KINDS = {
    "commands": "server",
    "servers": "server",
    "os-volumes_boot": "server",
    "flavors": "flavor",
    "os-keypairs": "keypair",
    "os-server-groups": "server_group",
    "os-aggregates": "host_aggregate",
    "os-services": "host",
    "os-quota-sets": "project",
    "networks": "network",
    "subnets": "subnet",
    "ports": "port",
    "security-groups": "security_group",
    "security-group-rules": "security_group",
    "images": "image",
    "volumes": "volume",
    "snapshots": "volume_snapshot",
    "users": "user",
    "projects": "project",
    "roles": "role",
}


async def keep(services: Services, scope: Scope) -> None:
    """Record the refusal that this request was answered with, if it is one to record."""
    state = scope["state"]
    refused, caller = state.get("refused"), state.get("caller")
    if not isinstance(refused, Rejected) or not isinstance(caller, Caller) or refused.recorded:
        return
    refuses = 400 <= refused.code < 500 or refused.code == 501  # what is not offered is refused, too
    if scope["method"] in _READS or not refuses or _TRIED.search(scope.get("query_string", b"")):
        return
    asked = state.get("asked")
    params = asked if isinstance(asked, dict) else {} if asked is None else {"body": asked}
    kind, id_, command = refused.about or about(scope["method"], scope["path"], params)
    context = CommandContext(caller.actor, state["request_id"])
    await record(services.log.nc, kind, id_, command, params, context, refused, datetime.now(UTC))


def about(method: str, path: str, asked: dict[str, Any]) -> tuple[str, str, str]:
    """Kind, id (empty for what is not there yet) and command of a request, from its path and body."""
    parts = path.strip("/").split("/")
    at = next((index for index, part in enumerate(parts) if part in _KINDS), None)
    if at is None:
        return re.sub(r"[^a-z0-9]+", "_", parts[-1].lower()) or "request", "", _VERBS.get(method, method.lower())
    id_ = parts[at + 1] if len(parts) > at + 1 else str(asked.get("server_id") or "")
    command = _VERBS.get(method, method.lower())
    if parts[-1] == "action" and len(asked) == 1:
        command = next(iter(asked))
    elif isinstance(asked.get("type"), str) and parts[0] in ("v1", "ui"):
        command = asked["type"]
    elif parts[at] == "servers" and len(parts) > at + 2:
        command = _PARTS.get(parts[at + 2], {}).get(method, command)
    return _KINDS[parts[at]], id_, command
