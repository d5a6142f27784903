"""Giving a command on a server to the command side."""

from __future__ import annotations

from typing import Any

from api.compute.call import Call
from commands.context import Answer


async def carry_out(call: Call, command: str, server_id: str, params: dict[str, Any] | None = None) -> Answer:
    """Carry out a command of the machine. Raises `domain.errors.Rejected`."""
    return await call.services.commands.server(command, server_id, params or {}, call.context)
