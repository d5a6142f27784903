"""What an action of a server is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from api.compute.call import Call, Reply
from api.compute.versions import MAX_VERSION, MIN_VERSION

Run = Callable[[Call, str, Any], Awaitable[Reply]]


@dataclass(frozen=True)
class Action:
    """`run` gets the call, the server's id and the checked value under the action's key."""

    run: Run
    since: int = MIN_VERSION
    until: int = MAX_VERSION
