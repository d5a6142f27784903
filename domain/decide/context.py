"""What every decision gets and gives: who asks and when, how a step ended, and the events decided so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.orders import Fault, SubStep
from domain.server import EventBody, Server, ServerEvent, ServerPatch, evolve


@dataclass(frozen=True)
class Context:
    """Who asks, when, and under which request id.

    `host_up` and `host_lacks` (the orders that it can not carry out) are what the control plane knows of the server's
    host.
    """

    now: datetime
    request_id: str
    user_id: str
    project_id: str | None
    is_admin: bool = False
    host_up: bool = True
    host_lacks: frozenset[str] = frozenset()
    deadline_seconds: float | None = None
    due_after: Mapping[str, float] = field(default_factory=dict)  # command -> seconds until its follower comes
    why: str = ""  # the reason of a command that nobody typed, for the history


@dataclass(frozen=True)
class StepOutcome:
    """How a step ended, told by an agent's report or by the conductor. `patch`: fields of the server it found out."""

    step: str
    succeeded: bool
    patch: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    power_state: str | None = None
    unchanged: bool = False  # the step failed before it changed anything
    details: dict[str, Any] = field(default_factory=dict)
    sub_steps: tuple[SubStep, ...] = ()
    host: str | None = None


class Decision:
    """The events decided so far and the state after them, so that each rule looks at the state it will meet."""

    def __init__(self, server: Server, now: datetime) -> None:
        self.server = server
        self.now = now
        self.events: list[ServerEvent] = []

    def add(self, command: str, phase: str, request_id: str, patch: dict[str, Any], **body: Any) -> None:
        event = ServerEvent(command, phase, EventBody(request_id=request_id, patch=ServerPatch(**patch), **body))
        self.events.append(event)
        self.server = evolve(self.server, event, self.now)
