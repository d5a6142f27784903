"""The servers as they were at a position or a time, page by page.

The read model says who existed then and which commit was the newest of each; where that is not the newest of today, the
log gives the state. Filters hold of the state then, so a page may have to look at more servers than it shows: at most
`MAX_LOOKED_AT`, and it ends there, shorter than asked for, and says where the next one begins. The cost is that of so
many looks, however long the log is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from domain.server import Server, decode_server
from eventlog.log import EventLog
from projections.as_of import Moment, NotYetKnown
from projections.patterns import finder, no_expression, why_text
from projections.query import ServerQuery
from projections.read_model import ReadModel
from projections.rows import ServerThen

MAX_LOOKED_AT = 1000
BATCH = 100  # states that are asked of the log at a time


@dataclass(frozen=True)
class Page:
    """Servers, newest first. `next_marker`: the server to go on after; null at the end of the list."""

    servers: list[Server]
    next_marker: str | None


async def servers_at(
    read: ReadModel, log: EventLog, query: ServerQuery, moment: Moment, *, most: int = MAX_LOOKED_AT
) -> Page:
    """The servers asked for as they were then, by creation, newest first.

    Of the query, the project, the states, the host, the pattern of the name, `deleted`, the limit and the marker count.
    Raises MarkerNotFound, InvalidQuery, NotYetKnown.
    """
    if isinstance(moment, int) and moment > read.position:
        # Positions that the log does not have yet change nothing.
        moment = min(moment, await log.last_position())
        if not await read.wait_for(moment):
            raise NotYetKnown(f"the read model is at {read.position}, before {moment}: ask again in a moment")
    named = None if query.name_regex is None else finder(query.name_regex)
    shown: list[Server] = []
    marker, looked_at = query.marker, 0
    while looked_at < most:
        wanted = min(BATCH, most - looked_at)
        rows = await read.servers_then(replace(query, marker=marker, limit=wanted), moment)
        for row, server in zip(rows, await asyncio.gather(*(_state(log, row) for row in rows)), strict=True):
            if len(shown) == query.limit:
                return Page(shown, marker)
            if _matches(query, named, server):
                shown.append(server)
            marker = row.id
        looked_at += len(rows)
        if len(rows) < wanted:
            if not shown and query.marker is None and (why := why_text(query.name_regex)) is not None:
                raise no_expression("name", why)
            return Page(shown, None)
    return Page(shown, marker)


async def _state(log: EventLog, row: ServerThen) -> Server:
    if row.server is not None:
        return row.server
    recorded = await log.at(row.position)
    if recorded is None:
        raise NotYetKnown(f"position {row.position} of the log is missing: `chronova audit verify` says more")
    return decode_server(recorded.commit.state)


def _matches(query: ServerQuery, named: Callable[[str], bool] | None, server: Server) -> bool:
    if query.states is not None and not any(
        vm_state in (None, server.vm_state) and (task_states is None or server.task_state in task_states)
        for vm_state, task_states in query.states
    ):
        return False
    return (
        query.host in (None, server.host)
        and query.deleted in (None, server.deleted)
        and (named is None or named(server.name))
    )
