"""How a command ends early: one line that says what to do, and an exit code."""

from __future__ import annotations


class Stop(Exception):
    """End the command. Code 1 is a finding or a failure, 2 is wrong usage."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
