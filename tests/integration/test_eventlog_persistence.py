"""The persistence module, held against the test cases of the `eventsourcing` library itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    InfrastructureFactoryError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    StoredEvent,
    TrackingRecorder,
)
from eventsourcing.tests import application as application_cases
from eventsourcing.tests import persistence as cases
from eventsourcing.utils import Environment, get_topic

from eventlog.log import EventLog
from eventlog.persistence import EventLogFactory, EventLogTrackingRecorder
from eventlog.verify import verify_chain
from tests.dense_recorder import DenseFactory
from tests.eventlog_samples import append, new_id
from tests.nats_fixtures import LogPlace


def environment(place: LogPlace, **more: str) -> dict[str, str]:
    return {
        "PERSISTENCE_MODULE": "eventlog.persistence",
        "EVENTLOG_SERVERS": place.url,
        "EVENTLOG_STREAM": place.stream,
        "EVENTLOG_PREFIX": place.prefix,
        **more,
    }


class OnTheLog:
    """Gives a test case of the library a fresh log: `factory`, and the same place in the process's environment."""

    factory_class: ClassVar[type[EventLogFactory]] = EventLogFactory

    @pytest.fixture(autouse=True)
    def _fresh_log(self, log_place: LogPlace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        settings = environment(log_place)
        settings["PERSISTENCE_MODULE"] = get_topic(self.factory_class)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        self.place = log_place
        self.factory = self.factory_class(Environment("", settings))
        yield
        self.factory.close()


class TestAggregateRecorder(OnTheLog, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.factory.aggregate_recorder()


class TestAggregateRecorderWithTextIds(TestAggregateRecorder):
    def new_originator_id(self) -> str:
        return f"server/{uuid4()}"


class TestApplicationRecorder(OnTheLog, cases.ApplicationRecorderTestCase[ApplicationRecorder]):
    factory_class = DenseFactory

    def create_recorder(self) -> ApplicationRecorder:
        return self.factory.application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderWithGaps(OnTheLog, cases.ApplicationRecorderTestCase[ApplicationRecorder]):
    """What does not name ids literally runs on the recorder itself."""

    EXPECT_CONTIGUOUS_NOTIFICATION_IDS = False
    test_insert_select = None  # type: ignore[assignment]  # names the ids 1, 2 and 3

    def create_recorder(self) -> ApplicationRecorder:
        return self.factory.application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingIds(OnTheLog, cases.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> ApplicationRecorder:
        return self.factory.application_recorder()


class TestTrackingRecorder(OnTheLog, cases.TrackingRecorderTestCase):
    def create_recorder(self) -> TrackingRecorder:
        return self.factory.tracking_recorder()


class TracksElsewhere(EventLogTrackingRecorder):
    """What `TRACKING_RECORDER_TOPIC` may name."""


class TestFactory(OnTheLog, cases.InfrastructureFactoryTestCase[EventLogFactory]):
    test_create_process_recorder = None  # type: ignore[assignment]  # refused: see below

    def setUp(self) -> None:
        self.env = Environment("", dict(os.environ))
        super().setUp()

    def expected_factory_class(self) -> type[EventLogFactory]:
        return EventLogFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return type(self.factory.aggregate_recorder())

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return type(self.factory.application_recorder())

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return EventLogTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return TracksElsewhere

    def expected_process_recorder_class(self) -> Any:
        raise NotImplementedError


@pytest.mark.filterwarnings("default:'log' is deprecated:DeprecationWarning")
class TestApplication(OnTheLog, application_cases.ApplicationTestCase):
    factory_class = DenseFactory


class TestExampleApplication(OnTheLog, application_cases.ExampleApplicationTestCase):
    expected_factory_topic = "eventlog.persistence:EventLogFactory"


# What the library's cases leave open.


@pytest.fixture
def factory(log_place: LogPlace) -> Iterator[EventLogFactory]:
    made: EventLogFactory = InfrastructureFactory.construct(environment(log_place))  # type: ignore[assignment]  # by env
    yield made
    made.close()


def stored(id: UUID, version: int) -> StoredEvent:
    return StoredEvent(originator_id=id, originator_version=version, topic="t", state=b"{}")


def test_saving_two_aggregates_at_once_is_refused(factory: EventLogFactory) -> None:
    recorder = factory.application_recorder()
    with pytest.raises(NotSupportedError, match="one by one"):
        recorder.insert_events([stored(uuid4(), 1), stored(uuid4(), 1)])
    assert recorder.max_notification_id() is None


def test_a_process_recorder_is_refused(factory: EventLogFactory) -> None:
    with pytest.raises(NotSupportedError, match="tracking recorder"):
        factory.process_recorder()


def test_without_an_address_the_factory_says_what_to_set() -> None:
    with pytest.raises(InfrastructureFactoryError, match="EVENTLOG_SERVERS"):
        EventLogFactory({}).application_recorder()


def test_a_log_that_does_not_answer_is_an_operational_error() -> None:
    factory = EventLogFactory({"EVENTLOG_SERVERS": "nats://127.0.0.1:1"})
    with pytest.raises(OperationalError, match="no NATS server answers"):
        factory.application_recorder()
    factory.close()


async def test_the_librarys_commits_are_part_of_the_chain(factory: EventLogFactory, event_log: EventLog) -> None:
    recorder = factory.application_recorder()
    id = uuid4()
    recorder.insert_events([stored(id, 0), stored(id, 1)])
    recorder.insert_events([stored(id, 2)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored(id, 2)])
    entries = [
        (one.position, event_log.subject_of(one.commit), one.raw) async for batch in event_log.scan() for one in batch
    ]
    assert len(entries) == 2
    assert verify_chain(entries, prefix=event_log.prefix) is None


async def test_an_application_reads_the_whole_log_as_notifications(event_log: EventLog, log_place: LogPlace) -> None:
    class Tool(Application[UUID]):
        pass

    class Thing(Aggregate):
        pass

    id = new_id()
    first = await append(event_log, id, None, "server.create.accepted")
    await append(event_log, id, first, "server.create.step_started", "server.create.succeeded")
    with Application[UUID](environment(log_place)) as writer:
        writer.save(Thing())
    with Tool(environment(log_place, EVENTLOG_KIND="*")) as tool:
        found = list(tool.notification_log.select(start=1, limit=10))
        assert [(one.id, one.topic) for one in found[:3]] == [
            (1024, "server.create.accepted"),
            (2047, "server.create.step_started"),
            (2048, "server.create.succeeded"),
        ]
        assert [one.originator_version for one in found[:3]] == [1, 2, 3]
        assert {one.originator_id for one in found[:3]} == {UUID(id)}
        assert found[3].topic.endswith("Thing.Created")
        assert tool.recorder.max_notification_id() == 3072
        with pytest.raises(NotSupportedError, match="only chronova writes"):
            tool.recorder.insert_events([stored(uuid4(), 1)])
    with Tool(environment(log_place, EVENTLOG_KIND="server")) as tool:
        assert [one.originator_version for one in tool.recorder.select_events(UUID(id))] == [1, 2, 3]
        assert len(tool.recorder.select_notifications(1, 10)) == 3
