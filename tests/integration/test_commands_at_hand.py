"""What one process has at hand of a server never decides against a caller when another process went on with it."""

from __future__ import annotations

import pytest

from commands import at_hand
from commands.handler import Commands
from domain.errors import Conflict
from eventlog.log import EventLog
from tests.eventlog_samples import append, append_many, new_id
from tests.system import ADMIN, System, context


async def _shown_at_once(position: int) -> None:
    """Nobody reads."""


@pytest.fixture
def other(system: System) -> Commands:
    """The entry point of another process on the same log."""
    return Commands(system.log, visible=_shown_at_once, settings=system.settings, hosts=system.watch)


async def test_what_is_refused_on_an_old_commit_is_looked_at_again(system: System, other: Commands) -> None:
    server = await system.create()
    await system.commands.server("lock", server.id, {}, context(ADMIN))
    await other.server("unlock", server.id, {}, context(ADMIN))
    await system.do("stop", server.id)
    with pytest.raises(Conflict, match="while it is in vm_state stopped"):
        await other.server("stop", server.id, {}, context())


async def test_what_an_old_commit_has_already_is_done_again(system: System, other: Commands) -> None:
    server = await system.create()
    await system.commands.server("lock", server.id, {}, context())
    await other.server("unlock", server.id, {}, context())
    answer = await system.commands.server("lock", server.id, {}, context())
    assert answer.changed
    assert (await system.server(server.id)).locked


async def test_an_overtaken_commit_is_no_ground_to_append_on(system: System, other: Commands) -> None:
    server = await system.create()
    await system.commands.server("lock", server.id, {}, context())
    theirs = await other.server("update", server.id, {"name": "renamed"}, context(ADMIN))
    ours = await system.commands.server("unlock", server.id, {}, context())
    assert ours.server.name == "renamed"
    assert ours.version > theirs.version


async def test_the_newest_commit_of_each_server_is_at_hand_and_only_so_many(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_hand, "MAX_COMMITS", 2)
    kept, id = at_hand.AtHand(), new_id()
    first, second = await append_many(event_log, id, 2)
    kept.keep(second)
    kept.keep(first)
    assert kept.get(id) is second
    others = [await append(event_log, new_id(), None) for _ in range(2)]
    for one in others:
        kept.keep(one)
    assert kept.get(id) is None
    assert [kept.get(one.commit.id) for one in others] == others
