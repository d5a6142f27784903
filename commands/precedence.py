"""Who comes first where one process does both: commands, then what the control plane does by itself.

Somebody waits for the answer to a command; nobody waits for the next step of what was accepted. So the conductor's work
waits while commands are in hand, never longer than `MOST_SECONDS`, and is then done in batches, which cost less. In a
process that has no command in hand it waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

MOST_SECONDS = 0.5
# So many turns of the event loop bring a request that has come to where its command begins.
TURNS = 4


class Precedence:
    """One per process. Belongs to one event loop."""

    def __init__(self, most_seconds: float = MOST_SECONDS) -> None:
        self._most_seconds = most_seconds
        self._commands = 0
        self._clear = asyncio.Event()

    @contextmanager
    def command(self) -> Iterator[None]:
        """A command is in hand."""
        self._commands += 1
        self._clear.clear()
        try:
            yield
        finally:
            self._ended()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The command in hand waits for what the control plane does: it is not in its way meanwhile."""
        self._ended()
        try:
            yield
        finally:
            self._commands += 1
            self._clear.clear()

    async def turn(self) -> None:
        """Wait until no command is in hand, or for as long as one has to wait at most."""
        if not self._commands:
            return
        now = asyncio.get_running_loop().time
        until = now() + self._most_seconds
        while self._commands and now() < until:
            try:
                async with asyncio.timeout_at(until):
                    await self._clear.wait()
            except TimeoutError:
                return
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def _ended(self) -> None:
        self._commands -= 1
        if not self._commands:
            self._clear.set()
