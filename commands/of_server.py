"""What the steps of a workflow have in common: the server that they are done for, and on whose behalf."""

from __future__ import annotations

from dataclasses import dataclass

from commands.context import CommandContext
from domain.server import Operation, Server


@dataclass(frozen=True, kw_only=True)
class OfServer:
    """`server` is in an operation: a step is done for one."""

    server: Server
    context: CommandContext

    @property
    def operation(self) -> Operation:
        assert self.server.operation is not None
        return self.server.operation
