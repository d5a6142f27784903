"""chronova's log as a persistence module of the `eventsourcing` library: `PERSISTENCE_MODULE=eventlog.persistence`.

The library's recorders on the same stream, in the same form, with the same guarantees as every other commit: hash
chain, optimistic concurrency, settled acknowledgements. With `EVENTLOG_KIND=*` an application reads everything in the
log, chronova's own commits included, as notifications; it can not write then.

Environment: `EVENTLOG_SERVERS` (comma-separated URLs, required), `EVENTLOG_USER`, `EVENTLOG_PASSWORD`,
`EVENTLOG_STREAM`, `EVENTLOG_PREFIX`, `EVENTLOG_KIND` (default `library`).

One commit carries the events of one aggregate: saving several aggregates at once is refused, as is a process
recorder, which would need an aggregate and a position to change together. A version that exists already raises
IntegrityError; a log that does not answer, OperationalError.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    InfrastructureFactory,
    InfrastructureFactoryError,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    NotSupportedError,
    OperationalError,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.utils import resolve_topic

from eventlog import stored_events as form
from eventlog.envelope import DEFAULT_PREFIX, Actor, Event, Meta, Recorded
from eventlog.errors import CommitTooLarge, Conflict, LogUnavailable
from eventlog.facade import LogThread
from eventlog.follower import Follower
from eventlog.log import DEFAULT_STREAM, EventLog

T = TypeVar("T")

ALL_KINDS = "*"
ACTOR = Actor("eventsourcing")
TRACKING_TOPIC = "eventlog.persistence:EventLogTrackingRecorder"


@contextmanager
def _library_errors() -> Iterator[None]:
    try:
        yield
    except Conflict as error:
        raise IntegrityError(str(error)) from error
    except (LogUnavailable, TimeoutError) as error:
        raise OperationalError(str(error)) from error
    except CommitTooLarge as error:
        raise DataError(str(error)) from error


class _Recorder:
    """What the recorders share: a log, and the kind of the commits they read and write."""

    def __init__(self, thread: LogThread, kind: str) -> None:
        self._thread = thread
        self._kind = kind
        self._filter = None if kind == ALL_KINDS else kind

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with _library_errors():
            return self._thread.call(coroutine)

    @property
    def _log(self) -> EventLog:
        return self._thread.log

    async def _append(self, token: str, last: Recorded | None, events: list[Event]) -> Recorded:
        meta = Meta(actor=ACTOR, request_id="", occurred_at=datetime.now(UTC))
        return await self._log.append(self._kind, token, expected=last, events=events, state=b"null", meta=meta)

    async def _insert(self, stored_events: Sequence[StoredEvent]) -> Sequence[int]:
        if not form.is_library_kind(self._kind):
            raise NotSupportedError("the library can read these commits, and only chronova writes them")
        if len({one.originator_id for one in stored_events}) > 1:
            raise NotSupportedError("one commit carries one aggregate's events: save aggregates one by one")
        if len(stored_events) > form.MAX_EVENTS_PER_COMMIT:
            raise DataError(f"a commit holds at most {form.MAX_EVENTS_PER_COMMIT} events")
        token = form.token_of(stored_events[0].originator_id)
        last = await self._log.last_from_leader(self._kind, token)
        version = form.unpack(last.commit)[-1].originator_version if last else -1
        for one in stored_events:
            if one.originator_version <= version:
                raise IntegrityError(f"version {one.originator_version} of {one.originator_id} comes after {version}")
            version = one.originator_version
        recorded = await self._append(token, last, form.pack(stored_events))
        return form.notification_ids(recorded.position, len(stored_events))

    async def _select(
        self, originator_id: UUID | str, gt: int | None, lte: int | None, desc: bool, limit: int | None
    ) -> list[StoredEvent]:
        token = form.token_of(originator_id)
        if desc and limit == 1 and lte is None:
            # The newest event is in the newest commit: no history has to be read.
            newest = await self._log.last(self._kind, token)
            commits = [newest] if newest else []
        else:
            commits = await self._log.read(self._kind, token)
        found = [
            one
            for recorded in commits
            for one in form.unpack(recorded.commit)
            if (gt is None or one.originator_version > gt) and (lte is None or one.originator_version <= lte)
        ]
        if desc:
            found.reverse()
        return found[:limit]


class EventLogAggregateRecorder(_Recorder, AggregateRecorder):
    """Events of aggregates, or their snapshots (which have a kind of their own)."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        if stored_events:
            self._call(self._insert(stored_events))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        return self._call(self._select(originator_id, gt, lte, desc, limit))


class EventLogApplicationRecorder(EventLogAggregateRecorder, ApplicationRecorder):
    """The same, with the sequence of all events: see `stored_events` for the ids."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        return list(self._call(self._insert(stored_events))) if stored_events else []

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        lowest = max(1, (start or 0) + (0 if inclusive_of_start else 1))
        return self._call(self._notifications(lowest, limit, stop, frozenset(topics)))

    def max_notification_id(self) -> int | None:
        newest = self._call(self._log.newest(self._filter))
        return newest.position << form.ID_BITS if newest else None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        return EventLogSubscription(recorder=self, gt=gt, topics=topics)

    def watch(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Call `wake` whenever something was appended, until the function that is returned is called."""

        async def handler(_: list[Recorded]) -> None:
            wake()

        async def start() -> Follower:
            return await self._log.follow(await self._log.last_position(), handler, kind=self._filter)

        follower = self._call(start())
        return lambda: self._call(follower.stop())

    async def _notifications(
        self, lowest: int, limit: int, stop: int | None, topics: frozenset[str]
    ) -> list[Notification]:
        found: list[Notification] = []
        after = form.position_of(lowest) - 1
        async with aclosing(self._log.scan(after, kind=self._filter)) as batches:
            async for batch in batches:
                for one in (notification for recorded in batch for notification in form.notifications(recorded)):
                    if one.id < lowest or (topics and one.topic not in topics):
                        continue
                    if len(found) == limit or (stop is not None and one.id > stop):
                        return found
                    found.append(one)
                if len(found) == limit:
                    return found
        return found


class EventLogSubscription(ListenNotifySubscription[EventLogApplicationRecorder]):
    """The library's subscription: it selects, and the log says when there is something to select."""

    def __init__(self, recorder: EventLogApplicationRecorder, gt: int | None, topics: Sequence[str]) -> None:
        self._unwatch: Callable[[], None] | None = None
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        try:
            self._unwatch = recorder.watch(self._has_been_notified.set)
        except BaseException:
            self.stop()
            raise
        # The first selection may have been made before the log was watched.
        self._has_been_notified.set()

    def stop(self) -> None:
        super().stop()
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()


class EventLogTrackingRecorder(_Recorder, TrackingRecorder):
    """How far the consumers of notifications have come: an aggregate per application."""

    def insert_tracking(self, tracking: Tracking) -> None:
        self._call(self._track(tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        last = self._call(self._log.last_from_leader(self._kind, form.token_of(application_name)))
        return _tracked(last) if last else None

    async def _track(self, tracking: Tracking) -> None:
        token = form.token_of(tracking.application_name)
        last = await self._log.last_from_leader(self._kind, token)
        if last is not None and tracking.notification_id <= _tracked(last):
            raise IntegrityError(f"{tracking.application_name} was tracked up to {_tracked(last)} already")
        await self._append(token, last, form.pack([StoredEvent(token, tracking.notification_id, "tracking", b"")]))


def _tracked(recorded: Recorded) -> int:
    return form.unpack(recorded.commit)[-1].originator_version


class EventLogFactory(InfrastructureFactory[TrackingRecorder]):
    """Makes the recorders of one application, on one connection."""

    @cached_property
    def _thread(self) -> LogThread:
        servers = self.env.get("EVENTLOG_SERVERS")
        if not servers:
            raise InfrastructureFactoryError("set EVENTLOG_SERVERS to the URL of the NATS server that holds the log")
        with _library_errors():
            return LogThread(
                servers.split(","),
                user=self.env.get("EVENTLOG_USER"),
                password=self.env.get("EVENTLOG_PASSWORD"),
                stream=self.env.get("EVENTLOG_STREAM", DEFAULT_STREAM),
                prefix=self.env.get("EVENTLOG_PREFIX", DEFAULT_PREFIX),
            )

    @property
    def _kind(self) -> str:
        return self.env.get("EVENTLOG_KIND", form.LIBRARY_KIND)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        return EventLogAggregateRecorder(self._thread, self._kind if purpose == "events" else f"{self._kind}-{purpose}")

    def application_recorder(self) -> ApplicationRecorder:
        return EventLogApplicationRecorder(self._thread, self._kind)

    def tracking_recorder(self, tracking_recorder_class: type[TrackingRecorder] | None = None) -> TrackingRecorder:
        chosen = tracking_recorder_class or resolve_topic(self.env.get(self.TRACKING_RECORDER_TOPIC, TRACKING_TOPIC))
        if not (isinstance(chosen, type) and issubclass(chosen, EventLogTrackingRecorder)):
            raise InfrastructureFactoryError(f"{chosen} does not track in the log")
        return chosen(self._thread, f"{form.LIBRARY_KIND}-tracking")

    def process_recorder(self) -> NoReturn:
        raise NotSupportedError("events and positions of a process can not be one commit: use a tracking recorder")

    def close(self) -> None:
        thread = self.__dict__.pop("_thread", None)
        if thread is not None:
            thread.close()
