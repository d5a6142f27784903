"""What was appended is answered as accepted, also while nobody can say whether the read model shows it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from eventlog.nats_server import EmbeddedNats
from projections.projector import Projector
from tests.system import WAIT_SECONDS, System, context, new_server


async def test_a_command_is_accepted_while_the_read_model_is_away(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path, visible_timeout=1.0) as system:
        await _accepted_while_it_is_away(system)


async def _accepted_while_it_is_away(system: System) -> None:
    server = await system.create()
    await system.projector.stop()  # as in an API process: the projector is another one
    with closing(sqlite3.connect(system.directory / "read.db")) as database:
        database.execute("alter table positions rename to positions_away")
    answer = await system.commands.server("lock", server.id, {}, context())
    assert answer.changed
    assert (await system.server(server.id)).locked
    new = new_server("later")
    (created,) = await system.commands.create_servers([new], context())
    assert created.server_id == new.id
    with closing(sqlite3.connect(system.directory / "read.db")) as database:
        database.execute("alter table positions_away rename to positions")
    system.projector = await Projector.start(system.log, f"sqlite:///{system.directory / 'read.db'}")
    assert await system.read.wait_for(created.position, WAIT_SECONDS)
