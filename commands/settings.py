"""What the command side can be told: waits, limits, deadlines. Everything here has a user who would set it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    grace_seconds: float = 60.0  # how long a guest may take to shut down by itself
    shelved_offload: bool = True  # Nova's shelved_offload_time = 0
    reclaim_seconds: float = 0.0  # soft delete keeps a server so long; 0: deletes are at once
    seal: Callable[[str], str] = _plain  # makes a secret unreadable in the log
    unseal: Callable[[str], str] = _plain
