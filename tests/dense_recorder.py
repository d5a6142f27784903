"""An application recorder whose notification ids are 1, 2, 3: what the library's own test cases expect literally.

The log's ids have gaps; this view, for tests only, numbers them in their order. It also takes the events of several
aggregates at once, which those cases do in passing, and stores them one aggregate after the other; the log itself
refuses that, because it could not do it as a whole.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, Notification, StoredEvent, Subscription

from eventlog.persistence import EventLogFactory

PAGE = 1000


class DenseRecorder(ApplicationRecorder):
    def __init__(self, inner: ApplicationRecorder) -> None:
        self._inner = inner
        self._ids: list[int] = []
        self._lock = threading.Lock()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        by_aggregate: dict[UUID | str, list[StoredEvent]] = {}
        for one in stored_events:
            by_aggregate.setdefault(one.originator_id, []).append(one)
        return [
            self._to_dense(id)
            for events in by_aggregate.values()
            for id in self._inner.insert_events(events, **kwargs) or []
        ]

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        return self._inner.select_events(originator_id, gt=gt, lte=lte, desc=desc, limit=limit)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        found = self._inner.select_notifications(
            self._to_log(start), limit, self._to_log(stop), topics, inclusive_of_start=inclusive_of_start
        )
        return [replace(one, id=self._to_dense(one.id)) for one in found]

    def max_notification_id(self) -> int | None:
        newest = self._inner.max_notification_id()
        return None if newest is None else self._to_dense(newest)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        subscription = self._inner.subscribe(self._to_log(gt), topics)
        dense = self

        class DenseSubscription(type(subscription)):  # type: ignore[misc]  # the class is known only here
            def __next__(self) -> Notification:
                one: Notification = super().__next__()
                dense_one: Notification = replace(one, id=dense._to_dense(one.id))
                return dense_one

        subscription.__class__ = DenseSubscription
        return subscription

    def _learn(self) -> None:
        with self._lock:
            while True:
                known = self._ids[-1] if self._ids else 0
                page = self._inner.select_notifications(known, PAGE, inclusive_of_start=False)
                self._ids += [one.id for one in page]
                if len(page) < PAGE:
                    return

    def _to_dense(self, id: int) -> int:
        if not self._ids or self._ids[-1] < id:
            self._learn()
        return bisect.bisect_left(self._ids, id) + 1

    def _to_log(self, number: int | None) -> int | None:
        if number is None or number <= 0:
            return number
        if number > len(self._ids):
            self._learn()
        if number <= len(self._ids):
            return self._ids[number - 1]
        return (self._ids[-1] if self._ids else 0) + number - len(self._ids)


class DenseFactory(EventLogFactory):
    def application_recorder(self) -> ApplicationRecorder:
        return DenseRecorder(super().application_recorder())
