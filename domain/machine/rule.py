"""The words in which the machine is written: what one command's rule says.

A rule states once, for one command, when it is legal (`Guard`), what accepting it sets, which task_states it walks
through (`path`), and which vm_states each outcome may leave. Everything else (transitions, the check in the hot path,
the chart, the matrix, the diagrams, the 409 sentences) is derived from rules and never written twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from domain.states import TASK_STATES, VM_STATES

PHASES: Final = (
    "accepted",
    "step_started",
    "step_finished",
    "succeeded",
    "failed",
    "reverted",
    "cancelled",
)
"""What can happen to a command after it was asked for. An event's type is `server.<command>.<phase>`.

accepted: the guard held. step_started, step_finished: its workflow moved on. succeeded: done. failed: it ended with a
fault. reverted: it ended with a fault after its finished steps were undone. cancelled: another command took its place.
"""

OBSERVED: Final = "server.power.observed"
"""The one event that no command causes: what a hypervisor showed on its own."""

UNCHANGED: Final = "unchanged"
ANY_VM_STATE: Final = frozenset(VM_STATES)
ANY_TASK_STATE: Final[frozenset[str | None]] = frozenset((None, *TASK_STATES))
NO_TASK: Final[frozenset[str | None]] = frozenset((None,))

Policy = Literal["PROJECT_MEMBER_OR_ADMIN", "PROJECT_MANAGER_OR_ADMIN", "ADMIN", "SERVICE_OR_ADMIN", "removed"]
MEMBER: Final = "PROJECT_MEMBER_OR_ADMIN"
MANAGER: Final = "PROJECT_MANAGER_OR_ADMIN"
ADMIN: Final = "ADMIN"
SERVICE: Final = "SERVICE_OR_ADMIN"


@dataclass(frozen=True, slots=True)
class Guard:
    """When a command is legal.

    `host` "set": it needs a host, asked before the state; "up": a host that answers, asked after the state.
    """

    vm_states: frozenset[str] = ANY_VM_STATE
    task_states: frozenset[str | None] = ANY_TASK_STATE
    launched: bool = False
    lock_checked: bool = False
    host: Literal["set", "up"] | None = None

    def admits(self, vm_state: str, task_state: str | None) -> bool:
        return vm_state in self.vm_states and task_state in self.task_states


def settled(*vm_states: str, lock_checked: bool = True, host: Literal["set", "up"] | None = None) -> Guard:
    """Nova's usual guard: one of these vm_states, no task in progress, launched once, and not locked."""
    return Guard(frozenset(vm_states), NO_TASK, launched=True, lock_checked=lock_checked, host=host)


def always(*, launched: bool = False, lock_checked: bool = False, host: Literal["set", "up"] | None = None) -> Guard:
    """Legal in every vm_state and task_state."""
    return Guard(launched=launched, lock_checked=lock_checked, host=host)


@dataclass(frozen=True, slots=True)
class Stage:
    """A task_state on the way, the vm_state set with it (UNCHANGED: none), and the vm_state it needs (null: any)."""

    task_state: str
    vm_state: str = UNCHANGED
    only_from: str | None = None


def walks(*stages: str | Stage) -> tuple[Stage, ...]:
    """The stages after acceptance, in order. A workflow may skip stages; it never walks back (except `retries`)."""
    return tuple(Stage(stage) if isinstance(stage, str) else stage for stage in stages)


FROM_ERROR_ACTIVE: Final[Mapping[str, frozenset[str]]] = MappingProxyType({"error": frozenset({"active"})})
"""A server in error comes back running, whatever it was before."""


def ends(
    succeeded: str | Iterable[str] = UNCHANGED,
    *,
    failed: str | Iterable[str] = UNCHANGED,
    reverted: str | Iterable[str] | None = UNCHANGED,
) -> Mapping[str, frozenset[str]]:
    """The vm_states that each outcome may leave; UNCHANGED: the one it is in. `reverted=None`: nothing to undo."""

    def names(of: str | Iterable[str]) -> frozenset[str]:
        return frozenset((of,)) if isinstance(of, str) else frozenset(of)

    outcomes = {"succeeded": names(succeeded), "failed": names(failed)}
    if reverted is not None:
        outcomes["reverted"] = names(reverted)
    return MappingProxyType(outcomes)


AT_ONCE: Final[Mapping[str, frozenset[str]]] = MappingProxyType({"succeeded": frozenset((UNCHANGED,))})
"""Outcomes of a command that is accepted and done in the same commit: it can be refused, but not fail."""

NEVER: Final[Mapping[str, frozenset[str]]] = MappingProxyType({})
"""Outcomes of a command that no longer exists."""


@dataclass(frozen=True, slots=True)
class CommandRule:
    """Everything the machine knows about one command. Deadlines are in seconds; 0: it never stays open.

    `action` is the name in the action history (null: it leaves none), `events` the names of its history events,
    `word` how Nova names it in a 409 sentence.
    """

    id: str
    title: str
    guard: Guard
    outcomes: Mapping[str, frozenset[str]]
    accept_task_state: str | None = UNCHANGED
    accept_vm_states: tuple[str, ...] = (UNCHANGED,)
    stages: tuple[Stage, ...] = ()
    succeeds_from: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """Where success has fewer vm_states than `outcomes` says: by the vm_state it comes from."""
    action: str | None = None
    events: tuple[str, ...] = ()
    word: str = ""
    policy: Policy = MEMBER
    deadline_seconds: int = 0
    retries: bool = False
    """A failed attempt may go back to the first task_state and try another host."""
    creates: bool = False
    """The server does not exist before: the guard has nothing to look at, and the event can only be the first."""
    accompanies: str | None = None
    """Works on an operation that is already open (and holds the task_state), and may see it end."""
    locked_reads_invalid: bool = False
    """Nova answers a locked server with the sentence for an invalid state; clients know it so."""
    internal: bool = False
    """Nobody can ask for it: the control plane does, as a service."""
    why: str = field(default="", compare=False)
    """What a reader should know that the fields do not say."""

    @property
    def path(self) -> tuple[str, ...]:
        """The task_states it may walk through after acceptance, in order."""
        return tuple(stage.task_state for stage in self.stages)

    @property
    def task_states(self) -> tuple[str, ...]:
        """Every task_state that this command sets, in order."""
        first = () if self.accept_task_state in (None, UNCHANGED) else (self.accept_task_state,)
        return (*(name for name in first if name is not None), *self.path)

    @property
    def instant(self) -> bool:
        """Accepted and done in one commit: it is never an open operation."""
        return self.deadline_seconds == 0

    @property
    def exists(self) -> bool:
        """False for a command that was removed from the API and is always refused with 410."""
        return bool(self.outcomes)

    def leaves(self, phase: str, vm_state: str) -> frozenset[str]:
        """The vm_states that an outcome may leave a server in that was in `vm_state`; UNCHANGED: that one."""
        everywhere = self.outcomes.get(phase, frozenset())
        return self.succeeds_from.get(vm_state, everywhere) if phase == "succeeded" else everywhere

    def event(self, phase: str) -> str:
        """The event type of one of its phases."""
        return f"server.{self.id}.{phase}"
