"""The history of one action, folded event by event: the action, and the steps it took.

An action begins with `accepted` and ends with `succeeded`, `failed`, `reverted` or `cancelled`; its result is that true
end. What a hypervisor shows on its own (`observed`) begins and ends at once. The fold is total: an event that fits no
open step or no known action makes the row it is missing, so that nothing that happened is ever hidden.
"""

from __future__ import annotations

import msgspec

from eventlog.envelope import Meta
from projections.facts import Facts, When, failed, json_text, percent_of

ENDS = {"succeeded": "Success", "failed": "Error", "reverted": "Error", "cancelled": "Error"}

_encode = msgspec.json.Encoder().encode


class StepFold(msgspec.Struct):
    """A row of `action_steps`, in the order of its columns."""

    action_id: int
    number: int
    step: str
    undo: int
    attempt: int
    event: str | None
    start_time: str
    finish_time: str | None
    result: str | None
    host: str | None
    message: str | None
    progress: int | None
    fault: str | None
    details: str | None
    sub_steps: str | None
    position_first: int
    position_last: int

    def tell(self, facts: Facts, when: When) -> None:
        """Take over what an event says about the step; what it does not say stays."""
        self.event = facts.event or self.event
        self.host = facts.host or self.host
        self.message = facts.message or self.message
        details = json_text(facts.details)
        percent = percent_of(details)
        if percent is None:
            self.details = details or self.details
        else:
            self.progress = percent
        self.sub_steps = json_text(facts.sub_steps) or self.sub_steps
        self.position_last = when.position

    def finish(self, result: str, facts: Facts, when: When) -> None:
        self.tell(facts, when)
        self.finish_time = when.at
        self.result = result
        self.fault = json_text(facts.fault)


class ActionRecord(msgspec.Struct):
    """A row of `actions`, in the order of its columns."""

    id: int
    server_id: str
    request_id: str
    command: str
    action: str
    internal: int
    user_id: str
    user_name: str
    project_id: str | None
    roles: str
    remote: str
    start_time: str
    finish_time: str | None
    updated_at: str
    result: str | None
    outcome: str | None
    host: str | None
    text: str | None
    fault: str | None
    details: str | None
    position_last: int


class ActionFold:
    """One action and its steps while they change. `dirty` names the steps whose rows have to be written again."""

    def __init__(self, record: ActionRecord, steps: list[StepFold]) -> None:
        self.record = record
        self.steps = steps
        self.dirty: set[int] = set()

    @classmethod
    def begin(
        cls, *, server_id: str, request_id: str, command: str, action: str, internal: bool, meta: Meta, when: When
    ) -> ActionFold:
        actor = meta.actor
        record = ActionRecord(
            id=when.id,
            server_id=server_id,
            request_id=request_id,
            command=command,
            action=action,
            internal=int(internal),
            user_id=actor.user_id,
            user_name=actor.user_name,
            project_id=actor.project_id,
            roles=_encode(actor.roles).decode(),
            remote=actor.remote,
            start_time=when.at,
            finish_time=None,
            updated_at=when.at,
            result=None,
            outcome=None,
            host=None,
            text=None,
            fault=None,
            details=None,
            position_last=when.position,
        )
        return cls(record, [])

    @property
    def finished(self) -> bool:
        return self.record.result is not None

    def apply(self, phase: str, facts: Facts, when: When) -> None:
        record = self.record
        record.updated_at = when.at
        record.position_last = when.position
        record.host = facts.host or record.host
        if phase == "step_started":
            self._start(facts, when)
        elif phase == "step_finished":
            step = self._open(facts) or self._add(facts, when)
            step.finish("Error" if failed(facts) else "Success", facts, when)
            self.dirty.add(step.number)
        else:
            record.text = facts.message or record.text
            record.details = json_text(facts.details) or record.details
            if phase in ENDS:
                self._end(phase, facts, when)

    def observed(self, event: str | None, facts: Facts, when: When) -> None:
        """Begin and end at once, with the one event that Nova shows for it."""
        self.apply("succeeded", facts, when)
        self.record.outcome = "observed"
        if event is not None and not self.steps:
            self._at_once(event, facts, when)

    def _open(self, facts: Facts) -> StepFold | None:
        for step in reversed(self.steps):
            if step.step == facts.step and step.undo == facts.undo and step.finish_time is None:
                return step
        return None

    def _start(self, facts: Facts, when: When) -> None:
        step = self._open(facts) or self._add(facts, when)
        step.tell(facts, when)
        self.dirty.add(step.number)

    def _add(self, facts: Facts, when: When) -> StepFold:
        attempt = 1 + sum(1 for step in self.steps if step.step == facts.step and step.undo == facts.undo)
        step = StepFold(
            action_id=self.record.id,
            number=len(self.steps) + 1,
            step=facts.step,
            undo=int(facts.undo),
            attempt=attempt,
            event=facts.event,
            start_time=when.at,
            finish_time=None,
            result=None,
            host=facts.host,
            message=None,
            progress=None,
            fault=None,
            details=None,
            sub_steps=None,
            position_first=when.position,
            position_last=when.position,
        )
        self.steps.append(step)
        self.dirty.add(step.number)
        return step

    def _end(self, phase: str, facts: Facts, when: When) -> None:
        record = self.record
        result = ENDS[phase]
        record.outcome = phase
        record.result = result
        record.finish_time = when.at
        record.fault = json_text(facts.fault)
        for step in self.steps:
            if step.finish_time is None:
                # The end of the action ends what was still running in it, for the same reason.
                step.finish_time = when.at
                step.result = result
                step.fault = record.fault
                step.position_last = when.position
                self.dirty.add(step.number)
        if facts.event is not None and not self.steps:
            self._at_once(facts.event, facts, when)

    def _at_once(self, event: str, facts: Facts, when: When) -> None:
        step = self._add(facts, when)
        step.step = self.record.command
        step.event = event
        step.start_time = self.record.start_time
        step.finish_time = when.at
        step.result = self.record.result
        step.fault = self.record.fault
