"""The position table keeps the contract of the `eventsourcing` library's tracking recorders, by its own test case."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from eventsourcing.persistence import TrackingRecorder
from eventsourcing.tests.persistence import TrackingRecorderTestCase
from sqlalchemy import Engine

from projections.database import connect
from projections.tracking import PositionTracking
from tests.postgres_fixture import Postgres
from tests.projections_samples import fill


class OnEngine(TrackingRecorderTestCase):
    engine: ClassVar[Engine]

    def create_recorder(self) -> TrackingRecorder:
        with self.engine.begin() as connection:
            connection.exec_driver_sql("delete from positions")
        return PositionTracking(self.engine)


class TestOnSqlite(OnEngine):
    @classmethod
    def setUpClass(cls) -> None:
        folder = TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        url = f"sqlite:///{Path(folder.name)}/positions.db"
        fill(url, [])
        cls.engine = connect(url)
        cls.addClassCleanup(cls.engine.dispose)


class TestOnPostgresql(OnEngine):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _database(cls, postgres: Postgres) -> None:
        url = postgres.database()
        fill(url, [])
        cls.engine = connect(url)


# The case itself is abstract: it is the library's, and runs as the two above.
del OnEngine, TrackingRecorderTestCase
