"""A decision holds its room until its own commit comes by, also when the state it was made from is read once more.

Seen when a conductor took over: what it placed at its start came along in the log a moment later, as it was before,
let go of the room, and the next server was placed into it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from commands.capacity import Capacity
from domain.server import Server
from eventlog.nats_server import EmbeddedNats
from tests.system import FLAVOR, System


def used(capacity: Capacity) -> dict[str, int]:
    return {view.name: view.used_memory_mb for view in capacity.view()}


async def test_room_that_was_decided_on_is_let_go_by_a_newer_commit_only(
    own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with System.open(own_nats, tmp_path) as system:
        capacity = system.conductor.capacity
        server = Server(id="placed", name="web", flavor=FLAVOR, version=3)
        capacity.apply_server(server)
        capacity.reserve(server, "host-1")
        capacity.apply_server(server)
        assert used(capacity) == {"host-1": FLAVOR.ram, "host-2": 0}
        placed = msgspec.structs.replace(server, version=5, host="host-2")  # by whoever was quicker
        capacity.apply_server(placed)
        assert used(capacity) == {"host-1": 0, "host-2": FLAVOR.ram}
        capacity.apply_server(msgspec.structs.replace(placed, version=7, host=None))
        assert used(capacity) == {"host-1": 0, "host-2": 0}
