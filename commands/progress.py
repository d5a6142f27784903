"""How far a step of the control plane is: told by whoever does it, and a fact of the history, as an agent's steps are.

At most one event a second and one for every ten points. What is told last may be lost: the step's end follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from commands.handler import Commands
from domain import decide
from domain.server import Server, ServerEvent

Tell = Callable[[float], None]  # percent; may be called in any thread
EVERY_SECONDS = 1.0
POINTS = 10


def ignore(percent: float) -> None:
    """For whoever does not want to know."""


@asynccontextmanager
async def told(commands: Commands, server: Server, what: str) -> AsyncIterator[Tell]:
    """Within this, what is told becomes the progress of the step that `server` is at. `what` says it in words."""
    reached, ended = 0.0, asyncio.Event()

    def tell(percent: float) -> None:
        nonlocal reached
        reached = percent

    async def write() -> None:
        last = 0
        while not await _within(ended, EVERY_SECONDS):
            percent = int(reached)
            if percent >= last + POINTS:
                last = percent
                choose = partial(_progress, asked=server, percent=percent, what=what)
                await commands.internal(server.id, choose, causation_id=f"server:{server.id}:{server.version}")

    writer = asyncio.create_task(write())
    try:
        yield tell
    finally:
        ended.set()
        # An append that is under way is waited for; one that failed is no reason for the step to fail.
        await asyncio.gather(writer, return_exceptions=True)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _progress(now: Server, *, asked: Server, percent: int, what: str) -> list[ServerEvent]:
    a, b = now.operation, asked.operation
    if a is None or b is None or (a.request_id, a.undoing) != (b.request_id, b.undoing):
        return []
    return decide.progress(now, b.step, percent, what, datetime.now(UTC))
