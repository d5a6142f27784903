"""What follows a reset-state that ended something: the host drops what it was at, and what was taken is given back.

See `domain.settling` for what that is. The reset's word stands: neither the state nor a fault that it set is touched.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from domain.machine import MACHINE
from domain.server import LOOK, Due, Operation, Server
from domain.workflow import Step, Workflow, has_guest


def owes(server: Server) -> bool:
    return bool(server.owed)


def _built_on_what_goes(server: Server) -> bool:
    """A build that a reset ended gives its volumes back: a guest that boots from one of them goes first."""
    ended = any(owed.command == "create" for owed in server.owed)
    return ended and has_guest(server) and any(one.boot_index == 0 for one in server.block_devices)


def _keeps_its_guest(server: Server) -> bool:
    return has_guest(server) and not _built_on_what_goes(server)


def _settled(server: Server, operation: Operation, at: datetime, details: dict[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {"owed": (), "fault": server.fault}
    if "destroy" in operation.done:
        return patch | {"guest_exists": False, "power_state": "nostate"}
    if server.due is None and MACHINE.observe(server.vm_state, None, server.power_state) != server.vm_state:
        patch["due"] = Due(LOOK, at)  # the first look came before the host was done with what it dropped
    return patch


SETTLE = Workflow(
    "settle",
    (
        Step("destroy", order="destroy", when=_built_on_what_goes),
        Step("settle", order="settle", when=_keeps_its_guest),
        Step("give_back_owed", control="give_back_owed"),
    ),
    _settled,
)
