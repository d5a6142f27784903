"""What the command side can be told: waits, limits, deadlines. Everything here has a user who would set it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


def _plain(text: str) -> str:
    return text


@dataclass(frozen=True)
class CommandSettings:
    """`images_dir` and `volumes_dir` are as the agents see them. Seconds unless named otherwise."""

    images_dir: Path = Path()
    volumes_dir: Path = Path()
    visible_timeout: float = 2.0  # how long an answer waits for the read model to show it
    busy_wait: float = 10.0  # how long a command waits for work on its server that no client can see
    key_wait: float = 10.0  # how long a repeat waits for the answer to the first request with its Idempotency-Key
    conflict_retries: int = 64  # optimistic retries of one command: each is lost only to another one that got through
    deadline_seconds: float | None = None  # overrides every command's own deadline (tests, impatient operators)
    host_down_after: float = 15.0  # no heartbeat for so long: the host counts as down
    # how long an image, volume or address may wait for what it was made or kept for: longer than from one to the other
    unclaimed_seconds: float = field(default=60.0, metadata={"least": 1.0})
    grace_seconds: float = 60.0  # how long a guest may take to shut down by itself
    # how long a shelved server stays on its host; 0: not at all, -1: until told
    shelved_offload_seconds: float = field(default=0.0, metadata={"besides": -1.0})
    resize_confirm_seconds: float = 0.0  # a resize is confirmed by itself after so long; 0: never
    reclaim_seconds: float = 0.0  # soft delete keeps a server so long; 0: deletes are at once
    seal: Callable[[str], str] = _plain  # makes a secret unreadable in the log
    unseal: Callable[[str], str] = _plain

    @property
    def shelved_offload(self) -> bool:
        """Whether shelving takes a server from its host in the same action."""
        return self.shelved_offload_seconds == 0

    @property
    def due_after(self) -> dict[str, float]:
        """Seconds after which something follows a command by itself, as `domain.decide.Context` has them."""
        return {
            "soft-delete": self.reclaim_seconds,
            "shelve": self.shelved_offload_seconds,
            "resize": self.resize_confirm_seconds,
        }
