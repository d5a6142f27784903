"""Where a command that works on the log finds it: `--nats` and who one is there, as `up` and the roles have them.

Without them it is the log that the last start on the data directory used, which `offline` looks up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from cli import options as shared


@dataclass(frozen=True)
class LogAccess:
    """What was told of it. No servers: nothing was."""

    servers: tuple[str, ...] = ()
    user: str | None = None
    password: str | None = None


def log_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the function gets them as `access`."""

    @wraps(function)
    def wrapped(nats: tuple[str, ...], nats_user: str | None, nats_password: str | None, **values: Any) -> None:
        function(access=LogAccess(nats, nats_user, nats_password), **values)

    for decorate in (shared.NATS_PASSWORD, shared.NATS_USER, shared.NATS):
        wrapped = decorate(wrapped)
    return wrapped
