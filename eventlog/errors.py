"""What can go wrong with the log, as one small tree.

Only `LogUnavailable` is worth retrying as it stands; `Conflict` is worth deciding again on the winner's state. Every
other error is a finding: something that a retry can not mend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventlog.envelope import Recorded


class LogError(Exception):
    """Base of every error of this package."""


class Conflict(LogError):
    """Another commit of the aggregate is newer than the one that the caller decided on. Nothing was appended.

    `current` is the aggregate's newest commit, read from the stream's leader; None if the aggregate does not exist.
    """

    def __init__(self, kind: str, id: str, current: Recorded | None) -> None:
        self.current = current
        found = f"version {current.commit.version} at position {current.position}" if current else "does not exist"
        super().__init__(f"{kind} {id} changed meanwhile ({found}): load it, decide again and retry")


class LogUnavailable(LogError):
    """The log did not answer. With `ambiguous` the commit may have been stored: retry with the same commit id."""

    def __init__(self, message: str, *, ambiguous: bool = False) -> None:
        self.ambiguous = ambiguous
        super().__init__(message)


class CommitTooLarge(LogError):
    """The commit is larger than the stream accepts. Nothing was appended."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"the commit has {size} bytes, the log takes {limit}: make the change in smaller steps")


class CorruptMessage(LogError):
    """A stored message is not a commit of chronova."""

    def __init__(self, position: int, subject: str, what: str) -> None:
        self.position = position
        self.subject = subject
        self.what = what
        super().__init__(f"position {position} ({subject}): {what}; run `chronova audit verify`")


class NewerCommit(CorruptMessage):
    """A stored commit has a schema that this version does not know."""

    def __init__(self, position: int, subject: str) -> None:
        super().__init__(position, subject, "a newer chronova wrote this commit: read this log with that version")


class StreamMismatch(LogError):
    """The stream exists with a configuration that could lose or change commits."""
