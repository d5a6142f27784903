"""Proving a log: every server's stream is a legal run of the machine, and every stored state is the fold of its events.

The hash chain (`eventlog.verify`) says that nothing was altered; this says that what was written made sense: the move
(`domain.machine`), who and what stood behind it, and which fields it changed (`domain.lawful`). Feed the
commits in order of position; the answer to each is null or what is wrong with it. Memory grows with the number of
aggregates, not of commits.
"""

from __future__ import annotations

import msgspec

from domain import policy, resources
from domain.lawful import breach
from domain.machine import BEFORE_CREATE, MACHINE
from domain.resources import Resource, ResourceChange
from domain.server import Server, decode_event, decode_server, evolve
from eventlog import checkpoint
from eventlog.envelope import Commit
from eventlog.stored_events import is_library_kind

_decode_change = msgspec.json.Decoder(ResourceChange).decode


class MachineAudit:
    """Runs the machine over commits. One object per log."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}
        self._resources: dict[tuple[str, str], Resource] = {}
        self.commits = 0
        self.events = 0

    def feed(self, commit: Commit) -> str | None:
        """What is wrong with this commit, or None."""
        self.commits += 1
        self.events += len(commit.events)
        try:
            if commit.kind == "server":
                return self._server(commit)
            if commit.kind in resources.KINDS:
                return self._resource(commit)
            if commit.kind == checkpoint.KIND or is_library_kind(commit.kind):
                return None
        except (msgspec.DecodeError, ValueError) as error:
            return f"an event or the state can not be read: {error}"
        return f"chronova makes no commits of the kind {commit.kind}"

    def _server(self, commit: Commit) -> str | None:
        state = self._servers.get(commit.id, Server(id=commit.id))
        at, is_admin = commit.meta.occurred_at, policy.is_admin(commit.meta.actor.roles)
        pair = (state.vm_state, state.task_state) if state.version else BEFORE_CREATE
        events = [decode_event(record.type, record.data) for record in commit.events]
        states = [state]
        for index, event in enumerate(events):
            state = evolve(state, event, at)
            before, pair = pair, (state.vm_state, state.task_state)
            if not MACHINE.legal(event.type, before, pair):
                return f"the machine does not allow {event.type} from {_shown(before)} to {_shown(pair)}"
            if (wrong := breach(states, events, index, is_admin=is_admin, at=at)) is not None:
                return f"the machine does not allow {event.type} there: {wrong}"
            states.append(state)
        self._servers[commit.id] = state
        if state != decode_server(commit.state):
            return "the stored state is not what its events lead to"
        return None

    def _resource(self, commit: Commit) -> str | None:
        key = (commit.kind, commit.id)
        state = self._resources.get(key)
        first = commit.version - len(commit.events)
        for index, record in enumerate(commit.events):
            if not record.type.startswith(f"{commit.kind}."):
                return f"{record.type} does not belong to a {commit.kind}"
            change = _decode_change(record.data)
            anew = state is not None and state.deleted and not change.patch.get("deleted", False)
            base = None if state is None or anew else state
            state = resources.evolve(
                commit.kind, base, commit.id, change, commit.meta.occurred_at, version=first + index
            )
        assert state is not None, "a commit has at least one event"
        self._resources[key] = state
        if state != resources.decode(commit.kind, commit.state):
            return "the stored state is not what its events lead to"
        return None


def _shown(pair: tuple[str | None, str | None]) -> str:
    return "/".join(str(part) if part is not None else "none" for part in pair)
