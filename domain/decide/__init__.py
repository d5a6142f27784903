"""decide(state, command) -> events, for a server: the only place where its events come from.

Every function here is pure: it gets the server as it is, what is asked, and a `Context` (who, when, under which
request), and returns the events that follow, or raises `Rejected`. A command that is already satisfied returns no
events. Whether a command may begin is the machine's word (`domain.machine`); how it goes on is the workflow's
(`domain.workflows`).
"""

from domain.decide.accepting import MOVES, accept, must_be_possible, must_have_its_host, refuse
from domain.decide.context import Context, StepOutcome
from domain.decide.creating import NewServer, create
from domain.decide.instant import ASKED_BESIDES, INSTANT
from domain.decide.requirements import host_must_answer
from domain.decide.running import advance, progress, taken_over
from domain.decide.watching import expire, looked_at, observe, resolve_stuck, runs_though_stopped, synced

__all__ = [
    "ASKED_BESIDES",
    "INSTANT",
    "MOVES",
    "Context",
    "NewServer",
    "StepOutcome",
    "accept",
    "advance",
    "create",
    "expire",
    "host_must_answer",
    "looked_at",
    "must_be_possible",
    "must_have_its_host",
    "observe",
    "progress",
    "refuse",
    "resolve_stuck",
    "runs_though_stopped",
    "synced",
    "taken_over",
]
