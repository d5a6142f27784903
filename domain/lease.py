"""Who may conduct: a lease is an aggregate of the log, and its version is the term.

Taking it is a commit like any other, conditional on the one before, so of many who try one gets it; and because it
stands in the log, it has a place in the one order of everything: what a former holder reads of the log after it, it
reads as one that has lost. The functions here are the rules; waiting and listening are the caller's.
"""

from __future__ import annotations

from typing import Any

from domain.errors import Conflict
from domain.resources import Lease

SILENCE_SECONDS = 4.0  # without a sign of life from the holder for so long, another one takes the lease


def may_take(state: Lease | None, me: str, *, gone: bool, silent: float) -> bool:
    """Whether the lease can be taken now. `gone`: the holder is known to have ended; `silent`: seconds unheard."""
    return state is None or state.holder in ("", me) or gone or silent >= SILENCE_SECONDS


def predecessor_may_act(state: Lease | None, me: str, *, gone: bool) -> bool:
    """Whether whoever held the lease before may still be running, paused perhaps, and not know that it lost."""
    return not (state is None or state.holder in ("", me) or gone)


def take(state: Lease, seen: int, me: str) -> dict[str, Any]:
    """The change that makes `me` the holder, if the lease is still as it was seen."""
    if state.version != seen:
        raise Conflict("Another one took the lease", hint="Wait until it is free again.", reason="lease_taken")
    return {"holder": me}


def give_up(state: Lease, term: int) -> dict[str, Any]:
    """The change with which the holder of a term lets go; nothing when it is not its any more."""
    return {"holder": ""} if state.version == term else {}
