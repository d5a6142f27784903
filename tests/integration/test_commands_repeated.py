"""What the control plane decides twice for one cause, such as after an answer that was lost, is one commit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.hosts import HostWatch
from commands.settings import CommandSettings
from domain import decide
from domain.server import ServerEvent, decode_server
from eventlog.envelope import Event
from eventlog.log import Conflict, EventLog
from tests.eventlog_samples import new_id
from tests.system import System, context

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=20)
EVENTS = [Event(type="image.create.succeeded")]


async def _shown_at_once(position: int) -> None:
    """Nobody reads."""


def entry_point(log: EventLog) -> Commands:
    """That of one more process on this log."""
    return Commands(log, visible=_shown_at_once, settings=CommandSettings(), hosts=HostWatch(log, 15.0))


async def test_a_repeat_by_another_process_is_the_first_commit(event_log: EventLog) -> None:
    cause = CommandContext(SERVICE, "req-1", causation_id="server:1:7")
    id = new_id()
    first = await entry_point(event_log).append("image", id, None, EVENTS, b'{"at":1}', cause, NOW)
    again = await entry_point(event_log).append("image", id, None, EVENTS, b'{"at":2}', cause, LATER)
    assert (again.position, again.raw) == (first.position, first.raw)
    assert [one.position for one in await event_log.read("image", id)] == [first.position]


@pytest.mark.parametrize(
    ("cause", "events"),
    [
        pytest.param(CommandContext(SERVICE, "req-1", causation_id="server:1:8"), EVENTS, id="another cause"),
        pytest.param(CommandContext(SERVICE, "req-2", causation_id="server:1:7"), EVENTS, id="another request"),
        pytest.param(
            CommandContext(SERVICE, "req-1", causation_id="server:1:7"),
            [Event(type="image.delete.succeeded")],
            id="another decision",
        ),
        pytest.param(
            CommandContext(SERVICE, "req-1", causation_id="server:1:7"),
            [Event(type="image.create.succeeded", data=msgspec.Raw(b'{"patch":{"name":"other"}}'))],
            id="another change",
        ),
        pytest.param(context(), EVENTS, id="a user"),
    ],
)
async def test_what_is_no_repeat_meets_the_commit_that_is_there(
    event_log: EventLog, cause: CommandContext, events: list[Event]
) -> None:
    id = new_id()
    first = CommandContext(SERVICE, "req-1", causation_id="server:1:7")
    await entry_point(event_log).append("image", id, None, EVENTS, b"{}", first, NOW)
    with pytest.raises(Conflict):
        await entry_point(event_log).append("image", id, None, events, b"{}", cause, LATER)


async def test_whoever_decides_again_goes_on_from_what_was_decided_first(system: System) -> None:
    server = await system.create()
    known = await system.log.last("server", server.id)
    assert known is not None
    before = decode_server(known.commit.state)

    def seen(at: datetime) -> list[ServerEvent]:
        return decide.observe(before, "shutdown", "crashed", "req-1", at)

    now = datetime.now(UTC)
    later = now + timedelta(seconds=20)
    first = await system.commands.internal(server.id, lambda _: seen(now), causation_id="report:1", known=known)
    other = entry_point(system.log)
    again = await other.internal(server.id, lambda _: seen(later), causation_id="report:1", known=known)
    assert first is not None
    assert first.power_state == "shutdown"
    assert again == first
    said = [one for one in await system.event_types(server.id) if one == "server.power.observed"]
    assert said == ["server.power.observed"]
