"""The read model: every question that the API asks of what the log led to.

One object per process. Answers are the newest committed rows; `wait_for` tells when they include a position.
Nothing here writes. Servers and resources are the domain's own types, decoded from the state in their newest commit;
deleted ones stay and can be asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from nats.errors import Error as NatsError
from sqlalchemy import Select, func, select

from domain import resources as domain_resources
from domain.resources import Address, Host, Port, Resource
from domain.server import Server, decode_server
from projections import queries, queries_servers
from projections.database import ReadModelUnavailable, Statements, connect, name_of, parse, version_of
from projections.facts import position_of
from projections.file_watch import FileWatch
from projections.queries import EventQuery
from projections.queries_actions import ActionQuery, read_action, read_actions, with_steps
from projections.query import MAX_LIMIT, MarkerNotFound, ServerQuery
from projections.reader import ReadConnection, Reader
from projections.rows import (
    ActionRow,
    HostRow,
    LogEventRow,
    PlacementRow,
    RejectionRow,
    ServerThen,
    Usage,
    action_row,
    log_event_row,
    rejection_row,
)
from projections.schema import LOG, SCHEMA_VERSION, placement, servers
from projections.times import to_text
from projections.waiting import HURRY, SUBJECT, Horizon, horizon, news, news_in

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

T = TypeVar("T")

OPEN_SECONDS = 10.0
OPEN_PAUSE_SECONDS = 0.05
# How long closing waits for reads in hand; a database that hangs longer is left to itself.
CLOSE_SECONDS = 10.0
# How often a process without a projector looks at the position itself: while somebody waits for it, and otherwise.
LOOK_SECONDS = 0.05
IDLE_LOOK_SECONDS = 1.0


class ReadModel:
    """Made by `open`; belongs to the event loop it was opened on."""

    def __init__(self, url: str) -> None:
        engine = connect(url, pool_size=8)
        self.dialect = engine.dialect.name
        self._reader = Reader(engine)
        self._statements = Statements(engine.dialect)
        self._name = name_of(url)
        self._horizon: Horizon = horizon(self._name)
        self._subscription: Subscription | None = None
        self._looking: asyncio.Task[None] | None = None
        self._patience = 0.0
        self._missed = 0  # the newest position that was waited for in vain
        self._sole_reader = False
        self._nats: Client | None = None
        self._heard = asyncio.Event()  # of a projector
        self._hurried = 0
        self._hurrying: asyncio.Task[None] | None = None
        self._url = url
        self._file = FileWatch(url)

    @classmethod
    async def open(
        cls, url: str, *, nats: Client | None = None, timeout: float = OPEN_SECONDS, sole_reader: bool = False
    ) -> ReadModel:
        """Wait for a projector to have made the tables. Raises ReadModelUnavailable after `timeout` seconds.

        `nats` brings the news of a projector in another process at once; without it they are up to 50 ms late.
        `sole_reader`: whoever wrote through this process reads through it as well, see `shown`. It waits for a running
        projector, which has seen to it that the tables are of this log; other readers take the tables that there are.
        """
        model = cls(url)
        try:
            if nats is not None:
                await model._listen(nats)
            if sole_reader:
                await model._hear(timeout)
                model._sole_reader = True
            else:
                await _wait_for_tables(url, timeout)
            await model._look()
        except BaseException:
            await model.close()
            raise
        model._file.opened()
        model._horizon.on_replaced.append(model._reopen)
        model._looking = asyncio.create_task(model._keep_looking(), name="read model position")
        return model

    async def close(self) -> None:
        with contextlib.suppress(ValueError):  # of one that was never open
            self._horizon.on_replaced.remove(self._reopen)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking], timeout=CLOSE_SECONDS)
        if self._subscription is not None:
            with contextlib.suppress(Exception):  # the connection may be gone already, and with it the subscription
                await self._subscription.unsubscribe()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(self._reader.close), CLOSE_SECONDS)

    # --- position -----------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The newest position known to be in the tables."""
        return self._horizon.position

    async def wait_for(self, position: int, timeout: float = 2.0) -> bool:
        """Whether the tables hold this position, at once or within `timeout` seconds. Raises nothing: who waits has
        appended already, and a read model that is away does not take that back."""
        if position <= self._horizon.position:
            return True
        if self._horizon.local:
            return await self._horizon.reached(position, timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not await self._horizon.reached(position, min(LOOK_SECONDS, max(0.0, deadline - loop.time()))):
            with contextlib.suppress(Exception):  # a database that is away does not show the position, nothing else
                await self._look()
            if loop.time() >= deadline:
                return self._horizon.position >= position
        return True

    async def shown(self, position: int, timeout: float) -> None:
        """See to it that whoever reads from now on finds this position, as far as that is possible in the time.

        The next read waits, if it comes that soon. Where the client may read through another process, waiting is done
        here.
        """
        if self._sole_reader or self._horizon.local:
            self._horizon.expected = max(self._horizon.expected, position)
            self._patience = timeout
        else:
            await self.wait_for(position, timeout)

    async def _small(self, read: Callable[[ReadConnection], T]) -> T:
        await self._expected()
        return await self._reader.small(read)

    async def _large(self, read: Callable[[ReadConnection], T]) -> T:
        await self._expected()
        return await self._reader.large(read)

    @property
    def is_behind(self) -> bool:
        """Whether it was waited in vain for something that was answered, which it still does not show."""
        return self._horizon.position < self._missed

    async def _expected(self) -> None:
        """Wait for what was answered: once. Who knows that it is behind goes on with what there is."""
        expected = self._horizon.expected
        if expected <= self._horizon.position or self.is_behind:
            return
        if not await self.wait_for(expected, self._patience):
            self._missed = expected

    async def _look(self) -> None:
        sql = self._statements.text("select position from positions where name=?")
        found = await self._reader.small(lambda connection: connection.rows(sql, (LOG,)))
        self._horizon.advance(found[0][0])

    def _reopen(self) -> None:
        self._file.opened()
        self._reader.renew()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(IDLE_LOOK_SECONDS)
            if not self._horizon.local:
                with contextlib.suppress(Exception):  # a database that is away is reported by those who read it
                    # A sole reader is told by its projector when a new file is fit to be read.
                    takes_it = not self._sole_reader and self._file.may_open()
                    if takes_it and await asyncio.to_thread(_has_tables, self._url):
                        self._reopen()
                    await self._look()

    def _hurry(self, position: int) -> None:
        if position > self._hurried:
            self._hurried = position
            self._hurrying = asyncio.create_task(self._tell_to_hurry(position))

    async def _tell_to_hurry(self, position: int) -> None:
        assert self._nats is not None
        with contextlib.suppress(NatsError, OSError):  # lost, it is written when it has been gathered
            await self._nats.publish(HURRY, news(self._name, position))

    async def _listen(self, nats: Client) -> None:
        self._nats = nats
        self._subscription = await nats.subscribe(SUBJECT, cb=self._on_news)
        if not self._horizon.local:
            self._horizon.hurry = self._hurry

    async def _hear(self, timeout: float) -> None:
        """Wait until a projector tells where it is."""
        try:
            async with asyncio.timeout(timeout):
                while not self._heard.is_set():
                    await self._tell_to_hurry(0)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._heard.wait(), OPEN_PAUSE_SECONDS)
        except TimeoutError:
            raise ReadModelUnavailable(f"no projector of {self._name} is heard of: start one") from None

    async def _on_news(self, message: Msg) -> None:
        told = news_in(message.data, self._name)
        if told is None:
            return
        if self._looking is None:  # nothing is open yet
            if self._file.is_now(told.file):
                self._heard.set()
            return
        if told.file != self._file.identity and self._file.is_now(told.file) and self._file.may_open():
            self._reopen()
        if told.file == self._file.identity:
            self._horizon.advance(told.position)

    # --- servers ------------------------------------------------------------------------------------------------

    async def server(self, id: str) -> Server | None:
        """The newest known state; deleted servers included."""
        sql = self._statements.text("select state from servers where id=?")
        found = await self._small(lambda connection: connection.rows(sql, (id,)))
        return decode_server(found[0][0]) if found else None

    async def servers(self, query: ServerQuery) -> list[Server]:
        """Raises MarkerNotFound, InvalidQuery."""

        def read(connection: ReadConnection) -> list[Server]:
            marker = None
            if query.marker is not None:
                marker = _marker(connection, queries_servers.marker_statement(query), query.marker)
            found = queries_servers.rows(
                connection, query, lambda as_text: queries_servers.list_statement(query, self.dialect, marker, as_text)
            )
            return [decode_server(row[2]) for row in found]

        return await self._large(read)

    async def servers_then(self, query: ServerQuery, moment: int | datetime) -> list[ServerThen]:
        """The servers that existed at a position or a time, by creation, newest first, whatever became of them.

        Of the query, the project, the limit and the marker count. Raises MarkerNotFound, InvalidQuery.
        """

        def read(connection: ReadConnection) -> list[ServerThen]:
            marker = None
            if query.marker is not None:
                marker = _marker(connection, queries_servers.marker_statement(query), query.marker)
            found = queries_servers.rows(
                connection, query, lambda _: queries_servers.then_statement(query, moment, marker)
            )
            positions = [(row, position_of(row[3])) for row in found]
            return [
                ServerThen(id=row[0], position=position, server=decode_server(row[2]) if position == row[1] else None)
                for row, position in positions
            ]

        return await self._large(read)

    async def servers_count(self, query: ServerQuery) -> int:
        def read(connection: ReadConnection) -> int:
            found = queries_servers.rows(
                connection, query, lambda as_text: queries_servers.count_statement(query, self.dialect, as_text)
            )
            return int(found[0][0])

        return await self._large(read)

    async def usage(self, project_id: str) -> Usage:
        statement = select(
            func.count(), func.coalesce(func.sum(servers.c.vcpus), 0), func.coalesce(func.sum(servers.c.memory_mb), 0)
        ).where(servers.c.project_id == project_id, servers.c.deleted == 0)
        found = await self._large(lambda connection: connection.select(statement))
        instances, cores, ram = map(int, found[0])
        return Usage(instances=instances, cores=cores, ram=ram)

    async def resizing(self, project_id: str) -> list[Server]:
        """The servers that are on their way to another flavor, or back."""
        statement = select(servers.c.state).where(
            servers.c.project_id == project_id, servers.c.deleted == 0, servers.c.task_state.like("resize%")
        )
        found = await self._large(lambda connection: connection.select(statement))
        return [decode_server(row[0]) for row in found]

    # --- actions ------------------------------------------------------------------------------------------------

    async def actions(
        self,
        server_id: str,
        *,
        limit: int = MAX_LIMIT,
        marker: str | None = None,
        changes_since: datetime | None = None,
        changes_before: datetime | None = None,
        internal: bool = True,
        steps: bool = False,
    ) -> list[ActionRow]:
        """Newest first. `marker` is a request id. `internal=False` leaves out what Nova has no action for.

        `steps=True` fills in steps and events. Raises MarkerNotFound.
        """
        text = self._statements.text
        query = ActionQuery(
            limit=limit,
            marker=marker,
            changes_since=changes_since,
            changes_before=changes_before,
            internal=internal,
        )

        def read(connection: ReadConnection) -> list[ActionRow]:
            found = read_actions(connection, text, server_id, query)
            return with_steps(connection, text, server_id, found) if steps else [action_row(row) for row in found]

        return await (self._large(read) if steps else self._small(read))

    async def action(self, server_id: str, request_id: str) -> ActionRow | None:
        """The newest action of this request, with its events and steps."""
        text = self._statements.text

        def read(connection: ReadConnection) -> list[ActionRow]:
            found = read_action(connection, text, server_id, request_id)
            return with_steps(connection, text, server_id, found)

        return next(iter(await self._small(read)), None)

    async def newest_actions(self, server_ids: Sequence[str]) -> dict[str, ActionRow]:
        """The newest action of each of these servers, without steps."""
        statement = queries.newest_actions_statement(server_ids[:MAX_LIMIT])
        found = await self._large(lambda connection: connection.select(statement))
        return {row.server_id: action_row(row) for row in found}

    # --- resources ----------------------------------------------------------------------------------------------

    async def resource(self, kind: str, id: str) -> Resource | None:
        """The newest known state; deleted resources included."""
        sql = self._statements.text("select state from resources where kind=? and id=?")
        found = await self._small(lambda connection: connection.rows(sql, (kind, id)))
        return domain_resources.decode(kind, found[0][0]) if found else None

    async def resource_by_name(self, kind: str, name: str, project_id: str | None = None) -> Resource | None:
        """The oldest resource of this name (of this project) that is not deleted."""
        found = await self.resources(kind, name=name, project_id=project_id, limit=1)
        return found[0] if found else None

    async def resources(
        self,
        kind: str,
        *,
        project_id: str | None = None,
        name: str | None = None,
        ids: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        include_deleted: bool = False,
        limit: int = MAX_LIMIT,
        marker: str | None = None,
        sort: queries.Sort = queries.OLDEST_FIRST,
    ) -> list[Resource]:
        """`where`: keys of `schema.RESOURCE_KEYS`, each with one value or several.

        Raises MarkerNotFound, InvalidQuery.
        """
        conditions = queries.resource_conditions(
            kind, project_id=project_id, name=name, ids=ids, where=where, include_deleted=include_deleted
        )

        def read(connection: ReadConnection) -> list[Resource]:
            after = None
            if marker is not None:
                after = _marker(connection, queries.resource_marker_statement(kind, sort, marker), marker)
            found = connection.select(queries.resources_statement(conditions, sort, limit, after))
            return [domain_resources.decode(kind, row[0]) for row in found]

        return await self._large(read)

    async def addresses_without_port(self, until: datetime) -> list[Address]:
        """Addresses that were claimed by that time, by a port that does not show them; at most `MAX_LIMIT`."""
        statement = queries.addresses_without_port_statement(to_text(until), MAX_LIMIT)
        found = await self._large(lambda connection: connection.select(statement))
        return [cast(Address, domain_resources.decode("address", row[0])) for row in found]

    async def ports_without_server(self, until: datetime) -> list[Port]:
        """Ports that were a server's by that time which does not show them, or is deleted; at most `MAX_LIMIT`."""
        statement = queries.ports_without_server_statement(to_text(until), MAX_LIMIT)
        found = await self._large(lambda connection: connection.select(statement))
        return [cast(Port, domain_resources.decode("port", row[0])) for row in found]

    async def hosts(self) -> list[HostRow]:
        """Every host with what is placed on it, by name."""

        def read(connection: ReadConnection) -> list[HostRow]:
            found = connection.select(queries.hosts_statement())
            placed = {row[0]: row for row in connection.select(queries.placed_statement())}
            return [_host_row(host, placed.get(host.name)) for host in (_decode_host(row[0]) for row in found)]

        return await self._large(read)

    async def placements(self, host: str) -> list[PlacementRow]:
        """What is placed on a host, server by server."""
        statement = select(placement).where(placement.c.host == host).order_by(placement.c.server_id, placement.c.role)
        found = await self._large(lambda connection: connection.select(statement))
        return [PlacementRow(**row._mapping) for row in found]

    # --- events and rejections ----------------------------------------------------------------------------------

    async def events(self, query: EventQuery) -> list[LogEventRow]:
        statement = queries.events_statement(query)
        found = await self._large(lambda connection: connection.select(statement))
        return [log_event_row(row) for row in found]

    async def commit_position(self, aggregate_id: str, *, upto: int | None = None, at: datetime | None = None) -> int:
        """The position of the aggregate's newest commit at or before a position or a time; 0 if there is none."""
        sql, parameters = queries.commit_text(aggregate_id, upto, at)
        found = await self._small(lambda connection: connection.rows(self._statements.text(sql), parameters))
        return position_of(found[0][0]) if found else 0

    async def rejections(
        self,
        *,
        project_id: str | None = None,
        aggregate_id: str | None = None,
        user_id: str | None = None,
        request_id: str | None = None,
        command: str | None = None,
        before_id: int | None = None,
        limit: int = MAX_LIMIT,
    ) -> list[RejectionRow]:
        """Refused commands, newest first."""
        statement = queries.rejections_statement(
            project_id=project_id,
            aggregate_id=aggregate_id,
            user_id=user_id,
            request_id=request_id,
            command=command,
            before_id=before_id,
            limit=limit,
        )
        found = await self._large(lambda connection: connection.select(statement))
        return [rejection_row(row) for row in found]


_decode_host = msgspec.json.Decoder(Host).decode


def _host_row(host: Host, placed: Sequence[Any] | None) -> HostRow:
    vcpus, memory_mb, disk_gb, count = map(int, placed[1:]) if placed else (0, 0, 0, 0)
    return HostRow(host=host, vcpus_used=vcpus, memory_mb_used=memory_mb, disk_gb_used=disk_gb, servers=count)


def _marker(connection: ReadConnection, statement: Select[Any], marker: str) -> Sequence[Any]:
    found = connection.select(statement)
    if not found:
        raise MarkerNotFound(marker)
    return found[0]


def _has_tables(url: str) -> bool:
    engine = connect(url)
    try:
        return version_of(engine) == SCHEMA_VERSION
    finally:
        engine.dispose()


async def _wait_for_tables(url: str, timeout: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not await asyncio.to_thread(_has_tables, url):
        if loop.time() > deadline:
            raise ReadModelUnavailable(
                f"no read model of version {SCHEMA_VERSION} at {parse(url)!r}: start a projector"
            )
        await asyncio.sleep(OPEN_PAUSE_SECONDS)
