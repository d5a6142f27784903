"""The hosts as every resource about hosts sees them: which are there, and whether they answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

from api.compute.call import Call
from domain.errors import NotFound
from domain.resources import Host
from projections.rows import HostRow


async def all_hosts(call: Call) -> list[HostRow]:
    """By name."""
    return await call.services.read.hosts()


async def by_name(call: Call, name: str, message: str) -> HostRow:
    """Raises `NotFound` with `message`."""
    for row in await all_hosts(call):
        if row.host.name == name:
            return row
    raise NotFound(message)


def answers(call: Call, host: Host) -> bool:
    """Whether the host's agent is heard, and no operator has declared it dead."""
    return not host.forced_down and call.services.commands.hosts.is_up(host.name)


def last_seen(call: Call, host: Host) -> datetime | None:
    """When its compute service was last known to work: its newest heartbeat.

    Heartbeats are not stored. Of a host that was silent since this process began, it is its newest change in the log.
    """
    watch = call.services.commands.hosts
    if not watch.heard_once(host.name):
        return host.updated_at
    return datetime.now(UTC) - timedelta(seconds=watch.silent_for(host.name))


def service_id(host: Host) -> str:
    """The id of a host's compute service, from 2.53 on."""
    return str(uuid5(NAMESPACE_OID, f"service:{host.id}"))
