"""From commits to rows: the fold that every read model is.

`Fold.add` takes commits in the order of the log; `Fold.take` gives the rows that changed since it was last asked. The
result depends on the commits alone, never on how they were cut into batches: one by one, in batches of any size and in
a rebuild from the first commit the rows are the same.

Actions in progress are kept between batches; what is not at hand is asked from the `Source` (the database, or nothing
at all while everything since position 1 is still in memory).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from msgspec.structs import astuple

from domain import resources
from domain.server import decode_server
from eventlog.envelope import Commit, Recorded
from projections.facts import Facts, When, decode_facts, event_id, split_type
from projections.fold_actions import ActionFold
from projections.fold_resources import event_row, resource_row
from projections.fold_servers import placement_rows, server_row
from projections.naming import action_of, observed_action_of
from projections.nulls import commit_without_nulls
from projections.times import to_text

Row = tuple[Any, ...]
ActionKey = tuple[str, str, str]  # server, request, command

NO_FACTS = Facts()
# Placements remembered to leave out writes that would change nothing.
REMEMBERED_PLACEMENTS = 50_000


class Source(Protocol):
    """What was folded before."""

    def action(self, key: ActionKey) -> ActionFold | None:
        """The newest action of this key."""

    def vm_state(self, server_id: str) -> str | None: ...


class Changes(NamedTuple):
    """Rows to write, per table, as tuples in the order of the table's columns. One row per key."""

    servers: list[Row]
    placement: dict[str, tuple[Row, ...]]  # all rows of a server, replacing those it had
    actions: list[Row]
    action_steps: list[Row]
    resources: list[Row]
    events: list[Row]


class Fold:
    """Folds commits. After an error its memory is worthless: make another one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: dict[ActionKey, ActionFold] = {}
        self._touched: dict[int, ActionFold] = {}
        self._servers: dict[str, Row] = {}
        self._vm_states: dict[str, str] = {}
        self._placed: dict[str, tuple[Row, ...]] = {}
        self._placement: dict[str, tuple[Row, ...]] = {}
        self._resources: dict[tuple[str, str], Row] = {}
        self._events: list[Row] = []

    def add(self, recorded: Recorded) -> None:
        commit = commit_without_nulls(recorded)
        if commit.kind == "server":
            self._server(recorded.position, commit)
        else:
            self._resource(recorded.position, commit)

    def take(self) -> Changes:
        actions: list[Row] = []
        steps: list[Row] = []
        for action in self._touched.values():
            actions.append(astuple(action.record))
            steps.extend(astuple(action.steps[number - 1]) for number in sorted(action.dirty))
            action.dirty.clear()
        changes = Changes(
            list(self._servers.values()),
            self._placement,
            actions,
            steps,
            list(self._resources.values()),
            self._events,
        )
        self._open = {key: action for key, action in self._open.items() if not action.finished}
        self._touched = {}
        self._servers, self._vm_states = {}, {}
        self._placement = {}
        self._resources = {}
        self._events = []
        if len(self._placed) > REMEMBERED_PLACEMENTS:
            self._placed.clear()
        return changes

    def _server(self, position: int, commit: Commit) -> None:
        at = to_text(commit.meta.occurred_at)
        server = decode_server(commit.state)
        for index, event in enumerate(commit.events):
            command, phase = split_type(event.type)
            facts = decode_facts(event.data)
            self._events.append(
                event_row(
                    commit,
                    position,
                    index,
                    at=at,
                    project_id=server.project_id,
                    facts=facts,
                    command=command,
                    phase=phase,
                )
            )
            when = When(event_id(position, index), position, at)
            if phase == "observed":
                self._observed(commit, command, facts, when, server.vm_state)
            elif phase:
                self._action(commit, command, phase, facts, when)
        self._servers[server.id] = server_row(server, position, bytes(commit.state).decode())
        self._vm_states[server.id] = server.vm_state
        placed = placement_rows(server)
        if self._placed.get(server.id) != placed:
            self._placed[server.id] = placed
            self._placement[server.id] = placed

    def _resource(self, position: int, commit: Commit) -> None:
        at = to_text(commit.meta.occurred_at)
        project_id = None
        if commit.kind in resources.KINDS:
            resource = resources.decode(commit.kind, commit.state)
            project_id = resource.project_id
            row = resource_row(commit.kind, resource, position, bytes(commit.state).decode())
            self._resources[commit.kind, commit.id] = row
        for index, event in enumerate(commit.events):
            command, phase = split_type(event.type)
            self._events.append(
                event_row(
                    commit, position, index, at=at, project_id=project_id, facts=NO_FACTS, command=command, phase=phase
                )
            )

    def _action(self, commit: Commit, command: str, phase: str, facts: Facts, when: When) -> None:
        request_id = facts.request_id or commit.meta.request_id
        key = (commit.id, request_id, command)
        action = None if phase == "accepted" else self._open.get(key) or self._source.action(key)
        if action is None:
            name, internal = action_of(command)
            action = _begin(commit, request_id, command, name, internal, when)
        self._open[key] = action
        self._touched[action.record.id] = action
        action.apply(phase, facts, when)

    def _observed(self, commit: Commit, command: str, facts: Facts, when: When, vm_state: str) -> None:
        before = self._vm_states.get(commit.id) or self._source.vm_state(commit.id)
        name, internal, event = observed_action_of(command, vm_state, vm_state != before)
        request_id = facts.request_id or commit.meta.request_id
        action = _begin(commit, request_id, command, name, internal, when)
        action.record.user_id = action.record.user_name = "hypervisor"
        action.observed(event, facts, when)
        self._touched[action.record.id] = action


def _begin(commit: Commit, request_id: str, command: str, action: str, internal: bool, when: When) -> ActionFold:
    return ActionFold.begin(
        server_id=commit.id,
        request_id=request_id,
        command=command,
        action=action,
        internal=internal,
        meta=commit.meta,
        when=when,
    )
