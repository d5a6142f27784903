"""Names that only one resource of its kind may have: a name is an aggregate, and taking it is one conditional commit.

A name is taken before the resource has it, and let go after. In between, and when a process ended in between, it has a
holder that does not have it; for `GRACE_SECONDS` that is respected, afterwards it is not. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from domain.errors import Conflict
from domain.resources import Name

GRACE_SECONDS = 30.0


def name_id(kind: str, name: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"name/{kind}/{name}"))


def duplicate(kind: str, name: str) -> Conflict:
    return Conflict(
        f"Conflict occurred attempting to store {kind} - Duplicate entry found with name {name}.",
        hint="Choose another name.",
        reason="duplicate_name",
    )


def take(state: Name, me: str, now: datetime, *, held: bool) -> dict[str, Any]:
    """The change that gives the name to `me`. `held`: its holder exists and is called so. Raises `Conflict`."""
    assert state.updated_at is not None
    in_hand = now - state.updated_at < timedelta(seconds=GRACE_SECONDS)
    if state.holder not in ("", me) and (held or in_hand):
        raise duplicate(state.kind, state.name)
    return {"holder": me}


def let_go(state: Name, me: str) -> dict[str, Any]:
    return {"holder": ""} if state.holder == me else {}
