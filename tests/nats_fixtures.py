"""Fixtures that need a nats-server: one server per session, a log of its own for every test.

The session's server does not wait for the disk, which makes tests quick; a test about durability starts its own.
`tests/conftest.py` makes the fixtures known to every test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats


@dataclass(frozen=True)
class LogPlace:
    """Where a test's log lives: a stream and a subject prefix that no other test uses."""

    url: str
    stream: str
    prefix: str

    async def open(self, url: str | None = None, timeout: float = 5.0) -> EventLog:
        return await EventLog.open(url or self.url, stream=self.stream, prefix=self.prefix, timeout=timeout)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    with EmbeddedNats.start(tmp_path_factory.mktemp("nats"), sync_interval=None) as server:
        yield server


@pytest.fixture
def log_place(nats_server: EmbeddedNats) -> LogPlace:
    token = uuid4().hex
    return LogPlace(nats_server.url, f"LOG_{token}", f"log-{token}")


@pytest.fixture
async def event_log(log_place: LogPlace) -> AsyncIterator[EventLog]:
    log = await log_place.open()
    yield log
    await log.close()
