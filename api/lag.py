"""Whether the read model is behind the log, for those who look at it: what they see is then older than it seems."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from eventlog.errors import LogUnavailable

if TYPE_CHECKING:
    from api.services import Services

LATE_SECONDS = 5.0  # what is younger is still on its way; another process's projector is looked at every second
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Lag:
    """`commits` of the log are not in the read model; the oldest of them was stored at `since`."""

    commits: int
    since: datetime


async def lag_of(at: Services, now: datetime) -> Lag | None:
    """None when the read model is up to date, and when the log does not say."""
    position = at.read.position
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            missing = await at.log.at(position + 1)
            if missing is None or missing.recorded_at is None:
                return None
            if now - missing.recorded_at < timedelta(seconds=LATE_SECONDS):
                return None
            return Lag(await at.log.last_position() - position, missing.recorded_at)
    except (LogUnavailable, TimeoutError):
        return None
