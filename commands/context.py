"""Who gives a command and what it is answered with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from domain.policy import is_admin
from domain.server import Server
from eventlog.envelope import Actor

SERVICE = Actor(user_id="chronova-conductor", user_name="conductor", roles=("service", "admin"))


@dataclass(frozen=True)
class CommandContext:
    """`if_match` is the version the caller has seen; `dry_run` decides without appending.

    `internal`: a command that nobody asks for by itself, given by another API of ours on its caller's behalf.
    """

    actor: Actor
    request_id: str
    idempotency_key: str | None = None
    if_match: int | None = None
    dry_run: bool = False
    internal: bool = False
    causation_id: str = ""

    @property
    def is_admin(self) -> bool:
        return is_admin(self.actor.roles)


@dataclass(frozen=True)
class Answer:
    """What a command led to: `position` is where it stands in the log; `changed` is false when it already held."""

    request_id: str
    server_id: str
    version: int
    position: int
    server: Server
    changed: bool = True
    details: dict[str, Any] = field(default_factory=dict)
