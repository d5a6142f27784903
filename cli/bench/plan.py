"""What a benchmark run was asked to do: which sizes, how often, on what disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """`sync` is the embedded server's fsync mode (`always`, an interval such as `10ms`, or `default`: two minutes).

    `directory` holds the data of what is measured; the system's temporary directory if None. `say` shows progress.
    """

    runs: int
    quick: bool
    sync: str
    directory: Path | None
    say: Callable[[str], None]

    def pick(self, full: T, quick: T) -> T:
        return quick if self.quick else full
