"""Waiting for a read model to reach a position: how a client reads its own writes.

One `Horizon` per read model and event loop. A projector in the same process moves it at once; in another process
it is moved by what arrives on the core NATS subject `projector.position` and, in case that is lost, by looking. Who
begins to wait tells the projector, in another process on the subject `projector.hurry`, that it should not gather; of
a position that it has reached already the projector tells once more. Both name the read model they are about: several
may live on one NATS. A position counts only in the file that it was reached in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple
from weakref import WeakKeyDictionary

SUBJECT = "projector.position"
HURRY = "projector.hurry"


class Horizon:
    """How far a read model is known to be. `local`: the projector that moves it runs in this process.

    `expected` is the newest position that this process has answered for: whoever reads next has to be shown it. `hurry`
    is called with the position that somebody begins to wait for. `on_replaced`: what to call when the tables are in
    another file than before.
    """

    def __init__(self) -> None:
        self.position = 0
        self.expected = 0
        self.local = False
        self.hurry: Callable[[int], None] = _nothing
        self.on_replaced: list[Callable[[], None]] = []
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._tie = count()

    def advance(self, position: int) -> None:
        """Move forward and wake who waits for it. Going back is no news: what was seen once is in the log."""
        if position <= self.position:
            return
        self.position = position
        waiting = self._waiting
        while waiting and waiting[0][0] <= position:
            future = heappop(waiting)[2]
            if not future.done():
                future.set_result(True)

    def restart(self, position: int) -> None:
        """Begin again, wherever that is: a projector starts, perhaps on another log."""
        self.position = 0
        self.advance(position)

    def replaced(self) -> None:
        """The tables are in another file: who reads has to open it."""
        for call in self.on_replaced:
            call()

    async def reached(self, position: int, timeout: float) -> bool:
        """Whether the position was reached within `timeout` seconds."""
        if position <= self.position:
            return True
        self.hurry(position)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        heappush(self._waiting, (position, next(self._tie), future))
        timer = loop.call_later(timeout, _give_up, future)
        try:
            return await future
        finally:
            timer.cancel()
            future.cancel()
            if len(self._waiting) > 64:
                self._waiting = sorted(entry for entry in self._waiting if not entry[2].done())


def _nothing(position: int) -> None:
    """There is nobody to hurry."""


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)


class News(NamedTuple):
    """What a message says: a position that is reached, and in which file, or one that is waited for."""

    position: int
    file: str


def news(name: str, position: int, file: str = "-") -> bytes:
    """The message that tells other processes about the read model of this name. `file`: see `FileWatch.identity`."""
    return f"{position} {file} {name}".encode()


def news_in(message: bytes, name: str) -> News | None:
    """What a message tells of this read model; None if it is about another one."""
    position, _, rest = message.decode().partition(" ")
    file, _, about = rest.partition(" ")
    return News(int(position), file) if about == name and position.isdecimal() else None


_horizons: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Horizon]] = WeakKeyDictionary()


def horizon(name: str) -> Horizon:
    """The horizon that everything on this event loop shares for the read model of this name (`database.name_of`)."""
    of_loop = _horizons.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault(name, Horizon())
