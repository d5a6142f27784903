"""The position table as a `TrackingRecorder` of the `eventsourcing` library: its Tracking contract over our positions.

Nothing of chronova calls it. It is the reading half of what `eventlog.persistence` is for writing: a projection that
somebody builds with that library on our log records how far it has come in the same table and under the same rules as
the projector (a notification id is taken once, and only forward), and can wait for a position. That our positions keep
the library's contract is proved by the library's own test case.
"""

from __future__ import annotations

from eventsourcing.persistence import IntegrityError, Tracking, TrackingRecorder
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError as AlreadyThere

from projections.schema import positions


class PositionTracking(TrackingRecorder):
    """Positions by name. Synchronous, as the library is; each call is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def insert_tracking(self, tracking: Tracking) -> None:
        name, position = tracking.application_name, tracking.notification_id
        forward = update(positions).where(positions.c.name == name, positions.c.position < position)
        try:
            with self._engine.begin() as connection:
                if connection.execute(forward.values(position=position)).rowcount == 0:
                    # Either the name is new, or the position is taken: the primary key tells.
                    connection.execute(positions.insert().values(name=name, position=position))
        except AlreadyThere as error:
            raise IntegrityError(f"{name} is at {position} or beyond already") from error

    def max_tracking_id(self, application_name: str) -> int | None:
        with self._engine.connect() as connection:
            return connection.execute(
                select(positions.c.position).where(positions.c.name == application_name)
            ).scalar_one_or_none()
