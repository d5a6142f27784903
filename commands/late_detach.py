"""A detach that was given up, and that the guest carried out all the same, later: it is done to its end.

The user asked for it, and the guest has let go in an orderly way; plugging the device in once more would give back what
nobody wants, under another name perhaps. So the conductor detaches it, as a command like any other: it is refused where
the user's would be, waits for what is in progress, survives a restart, and its history says why it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import msgspec

from commands.context import SERVICE
from domain import decide
from domain.errors import Rejected
from domain.order_of import volume_of
from domain.server import Server, ServerEvent


def finish(server: Server, devices: Iterable[str], report_id: str, now: datetime) -> list[ServerEvent]:
    """The first events of the detach of the first that is still the server's. The agent tells again what is left."""
    if server.operation is not None:
        return []
    for device in devices:
        command, params, what = _detach(server, device)
        context = decide.Context(
            now=now,
            request_id=f"req-{uuid5(NAMESPACE_OID, f'late-detach/{report_id}')}",
            user_id=SERVICE.user_id,
            project_id=None,
            is_admin=True,
            why=f"the guest let go of {what} after its detach had given up waiting",
        )
        try:
            return decide.accept(server, command, params, context)
        except Rejected:
            continue  # detached in between; or nothing is detached from a server in its state, which may change
    return []


def _detach(server: Server, device: str) -> tuple[str, dict[str, Any], str]:
    attachment = server.attachment(device)
    if attachment is None:
        return "detach-interface", {"port_id": device}, f"interface {device}"
    volume = msgspec.to_builtins(volume_of(attachment))
    return "detach-volume", {"volume_id": device, "volume": volume}, f"volume {device}"
