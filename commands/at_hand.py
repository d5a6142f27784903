"""The newest commits of servers that this process saw: a command that goes on from one saves a look into the log.

Another process may have gone on since. So a commit from here is good for an append, which the log refuses then, and for
nothing else: to refuse a command, or to do nothing, takes the log's own word.
"""

from __future__ import annotations

from eventlog.envelope import Recorded

MAX_COMMITS = 2048  # of some kilobytes each


class AtHand:
    """The newest of each server; those that were not asked for or changed for longest are forgotten."""

    def __init__(self) -> None:
        self._commits: dict[str, Recorded] = {}

    def get(self, server_id: str) -> Recorded | None:
        return self._commits.get(server_id)

    def keep(self, recorded: Recorded) -> None:
        known = self._commits.pop(recorded.commit.id, None)
        newer = known is not None and known.position > recorded.position
        self._commits[recorded.commit.id] = known if known is not None and newer else recorded
        if len(self._commits) > MAX_COMMITS:
            del self._commits[next(iter(self._commits))]
