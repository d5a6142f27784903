"""The conductor carries accepted commands through: it follows the log and does what each server's state calls for.

It keeps nothing that the log does not hold: at start it looks at the newest state of every server, then follows. A
state that waits for the conductor gets its step done; one that waits for an agent gets its order published; reports
become events; deadlines become events. All of it may happen twice without harm, because each result is
appended under the condition that the state is still the one it was computed from.

One conducts at a time: scheduling decisions are folded in its memory between two commits. A `Term` of the lease says
who (`commands.lease`). What a conductor does with a server, it does because it read a commit of it in the log, in
order; so it has done nothing for what comes after the commit that ended its term.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import NAMESPACE_OID, uuid5

import structlog

from commands import due, lease, resets, troubles
from commands.capacity import Capacity
from commands.context import SERVICE, CommandContext
from commands.deadlines import Deadlines
from commands.filters import FilterBook
from commands.handler import Commands, IllegalEvent
from commands.hosts import HostWatch
from commands.lease import LeaseLost, Term
from commands.lookup import Lookup
from commands.orders import OrderBook
from commands.reports import ReportReader
from commands.settings import CommandSettings
from commands.steps import Steps
from commands.streams import ensure_host_consumer, ensure_streams
from commands.sweep import Sweep
from domain import decide, resources
from domain.errors import Rejected
from domain.orders import HostInventory
from domain.resources import Host, ServerGroup
from domain.server import LeftGuest, Operation, Server, ServerEvent, decode_server
from domain.workflows import UNDO, WORKFLOWS
from eventlog.envelope import Recorded
from eventlog.follower import Follower
from eventlog.log import EventLog

log_ = structlog.get_logger(__name__)

MAX_CONCURRENT_STEPS = 64
MAX_TOGETHER = 64  # commits that are reacted to in one turn of the event loop
WATCH_SECONDS = 1.0
RETRY_STEP_SECONDS = 1.0
Doing = tuple[str, str, int, bool, datetime | None]


def host_id(name: str) -> str:
    """The id of a host's aggregate, from the name its agent has."""
    return str(uuid5(NAMESPACE_OID, f"host/{name}"))


class Conductor:
    def __init__(
        self, log: EventLog, commands: Commands, read: Lookup, settings: CommandSettings, watch: HostWatch, term: Term
    ) -> None:
        self.log = log
        self.term = term
        self.commands = commands.fenced(term.assure)
        self.settings = settings
        self.capacity = Capacity(watch)
        self.orders = OrderBook(log, settings, term.assure)
        self.filters = FilterBook(log, term.assure)
        self.steps = Steps(self.commands, read, self.capacity, settings)
        self.reports = ReportReader(log, self.commands, self.orders, self._inventory, self._awaited)
        self._watch = watch
        self._deadlines = Deadlines(self._due)
        self._running: dict[str, Doing] = {}  # server id -> the step of it that is being done
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_STEPS)
        self._follower: Follower | None = None
        self.sweep = Sweep(self.commands, read, settings)
        self._to_sweep: dict[str, datetime] = {}  # servers at work: by when another command may have ended one
        self._watcher: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._greeting: dict[str, asyncio.Lock] = {}  # of each host
        self._offers: dict[str, HostInventory] = {}  # what each host's agent has told, when it is in the log
        self._last_number = 0
        self._up: dict[str, bool] = {}
        self._left: set[tuple[str, LeftGuest]] = set()  # left guests whose destruction is ordered
        self._out: dict[str, tuple[Server, Recorded]] = {}  # servers whose order is out, with the commit that caused it

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look at everything once, then follow the log from there."""
        self.term.start()
        await ensure_streams(self.log.js, self.log.replicas)
        position = await self.log.last_position()
        for kind in ("host", "server_group"):
            async for one in self.log.scan_last(kind):
                self._apply_resource(one)
        for name in self.capacity.hosts:
            await ensure_host_consumer(self.log.js, name)
        self._deadlines.start()
        servers = [one async for one in self.log.scan_last("server")]
        if self.term.contested:
            servers = await asyncio.gather(*map(self._take_over, servers))
        for one in servers:  # all that is placed is known before anything is placed
            self.capacity.apply_server(decode_server(one.commit.state))
        for one in servers:
            self._react(one, starting=True)
        filters = self.filters.start()
        self._follower = await self.log.follow(
            position, self._handle, batch=MAX_TOGETHER, turn=self.commands.precedence.turn
        )
        await self.reports.start(self.term.number)
        self._watcher = asyncio.create_task(self._watch_hosts(), name="host-watch")
        self._sweeper = asyncio.create_task(self.sweep.run(), name="sweep")
        parts = (self._follower.failed, self._watcher, filters, self.term.lost)
        self.failed = asyncio.ensure_future(self._first_failure(*parts))

    async def _first_failure(self, *parts: asyncio.Future[Any]) -> None:
        """Ends only when a part of the conductor can not go on; the process is then started anew."""
        ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in ended:
            part.result()
        if self.term.lost in ended:
            raise LeaseLost(f"term {self.term.number} is over")

    async def _take_over(self, recorded: Recorded) -> Recorded:
        """Move a server whose step a former conductor may be at past the version which that one knows."""
        server = decode_server(recorded.commit.state)
        if server.operation is None or server.operation.awaits != "conductor":
            return recorded
        await self.commands.internal(
            server.id, lambda now: decide.taken_over(now, datetime.now(UTC)), causation_id=f"lease:{self.term.number}"
        )
        return await self.log.last_from_leader("server", server.id) or recorded

    async def stop(self) -> None:
        """Stop between steps: what is not appended yet will be done again by the next conductor."""
        self.failed.cancel()
        for task in (self._watcher, self._sweeper):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.reports.stop()
        if self._follower is not None:
            await self._follower.stop()
            await asyncio.gather(self._follower.failed, self.failed, return_exceptions=True)
        await self._deadlines.stop()
        await self.filters.stop()
        await self.orders.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.term.stop()

    async def _handle(self, batch: list[Recorded]) -> None:
        self.filters.apply(batch)
        newest = {one.commit.id: one for one in batch if one.commit.kind == "server"}
        for one in batch:
            if one.commit.kind == lease.KIND:
                self.term.saw(one)
            if one.commit.kind in ("host", "server_group"):
                self._apply_resource(one)
            if one.commit.kind == "server" and any(event.type.endswith(".cancelled") for event in one.commit.events):
                self._to_sweep[one.commit.id] = one.commit.meta.occurred_at
        for one in newest.values():
            self._react(one)

    def _apply_resource(self, recorded: Recorded) -> None:
        state = resources.decode(recorded.commit.kind, recorded.commit.state)
        if isinstance(state, Host):
            self.capacity.apply_host(state)
            self.filters.apply_host(state)
        elif isinstance(state, ServerGroup):
            self.capacity.apply_group(state)

    # --- what a state calls for ------------------------------------------------------------------------------------

    def _react(self, recorded: Recorded, *, starting: bool = False) -> None:
        server = decode_server(recorded.commit.state)
        self.capacity.apply_server(server)
        self.filters.apply_server(server)
        operation = server.operation
        before, _ = self._out.pop(server.id, (None, None))
        for left in server.left_guests:
            if (server.id, left) not in self._left:
                self._left.add((server.id, left))
                self._spawn(partial(self.orders.destroy_left, server, left))
        if operation is None:
            self._idle(server)
            return
        if starting:
            self._to_sweep[server.id] = recorded.commit.meta.occurred_at
        self._deadlines.set(server.id, operation.deadline)
        if operation.awaits == "agent":
            self._out[server.id] = (server, recorded)
            if before is not None and before.generation == server.generation:
                return  # its progress was told, nothing else: the order is out, and the agent would do another one anew
            if starting:
                self._spawn(partial(self.orders.publish_if_missing, server, recorded.position))
            elif not self.orders.publish_at_once(server, recorded.position):
                self._spawn(partial(self.orders.publish, server, recorded.position))
        elif operation.awaits == "conductor" and self._running.get(server.id) != _doing(operation):
            self._running[server.id] = _doing(operation)  # its progress, or a rename, does not begin it once more
            self._spawn(partial(self._step, server, recorded))

    def _idle(self, server: Server) -> None:
        self._running.pop(server.id, None)
        ended_at = self._to_sweep.pop(server.id, None)
        if ended_at is not None:
            self._spawn(partial(self.sweep.look_after, server.id, ended_at))
        coming = due.due_of(server, self.settings.reclaim_seconds)
        if coming is None:
            self._deadlines.clear(server.id)
        else:
            self._deadlines.set(server.id, coming.at)
        if decide.runs_though_stopped(server):
            self._spawn(partial(self._stop_running, server))

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The boundary of what the conductor does by itself: a failure is logged, the deadline ends the action."""
        try:
            async with self._slots:
                await work()
        except LeaseLost as lost:
            log_.info("conductor work dropped", reason=str(lost))
        except Exception:
            log_.exception("conductor work failed")

    async def _step(self, server: Server, recorded: Recorded) -> None:
        operation = server.operation
        assert operation is not None
        step = UNDO[operation.step] if operation.undoing else WORKFLOWS[operation.command].step(operation.step)
        assert step.control is not None
        while True:
            try:
                outcome = await self.steps.run(step.control, server)
                now = await self._advance(server, outcome, recorded)
                if now is not None:
                    self.capacity.apply_server(now)  # placing it may have held room for it
                    await self.steps.came_too_late(step.control, server, now)
                return
            except (IllegalEvent, LeaseLost):
                raise
            except Exception as error:
                if datetime.now(UTC) > operation.deadline:
                    raise
                log_.warning("step postponed", server_id=server.id, step=operation.step, error=repr(error))
                await asyncio.sleep(RETRY_STEP_SECONDS)

    async def _advance(self, server: Server, outcome: decide.StepOutcome, recorded: Recorded) -> Server | None:
        """Append what follows from a step; when its operation is over, and nothing does, the server as it is."""
        over = False

        def choose(now: Server) -> list[ServerEvent]:
            nonlocal over
            over = not _same_operation(now, server)
            return decide.advance(now, outcome, datetime.now(UTC)) if _same_step(now, server) else []

        now = await self.commands.internal(server.id, choose, causation_id=str(recorded.position), known=recorded)
        return now if over else None

    async def _stop_running(self, server: Server) -> None:
        """A guest that runs though its server is stopped is shut down, as Nova's power sync does."""
        request_id = f"req-{uuid5(NAMESPACE_OID, f'power-sync/{server.id}/{server.version}')}"
        context = decide.Context(
            now=datetime.now(UTC), request_id=request_id, user_id=SERVICE.user_id, project_id=None, is_admin=True
        )

        def choose(now: Server) -> list[ServerEvent]:
            return decide.accept(now, "power-sync", {}, context) if decide.runs_though_stopped(now) else []

        await self.commands.internal(server.id, choose, causation_id=f"server:{server.id}:{server.version}")

    async def _due(self, server_id: str) -> None:
        """A deadline has come: of an operation, or of what comes by itself."""
        server = await self.commands.load_server(server_id)
        if server is None:
            return
        if server.operation is not None:
            if datetime.now(UTC) < server.operation.deadline:
                self._deadlines.set(server_id, server.operation.deadline)
                return
            log_.warning("deadline", server_id=server_id, command=server.operation.command, step=server.operation.step)
            await self.commands.internal(
                server_id, lambda now: decide.expire(now, datetime.now(UTC)), causation_id="deadline"
            )
            return
        coming = due.due_of(server, self.settings.reclaim_seconds)
        if coming is None:
            return
        if datetime.now(UTC) < coming.at:
            self._deadlines.set(server_id, coming.at)
        elif resets.awaits_look(server):
            self._deadlines.set(server_id, datetime.now(UTC) + timedelta(seconds=due.AGAIN_SECONDS))
            self._spawn(partial(resets.look, self.commands, server))
        elif coming.command == resets.SETTLE:
            if not await resets.settle(self.commands, server):
                self._deadlines.set(server_id, datetime.now(UTC) + timedelta(seconds=due.AGAIN_SECONDS))
        elif not await due.carry_out(self.commands, server, coming):
            self._deadlines.set(server_id, datetime.now(UTC) + timedelta(seconds=due.AGAIN_SECONDS))

    def _awaited(self, server_id: str, generation: int) -> Recorded | None:
        """The commit whose order a report of this generation answers, if it is at hand."""
        server, recorded = self._out.get(server_id, (None, None))
        return recorded if server is not None and server.generation == generation else None

    # --- hosts -------------------------------------------------------------------------------------------------------

    async def _inventory(self, inventory: HostInventory) -> None:
        """A host's agent told what it offers: the host exists, and can take orders. Told again, that is so already."""
        async with self._greeting.setdefault(inventory.host, asyncio.Lock()):
            if self._offers.get(inventory.host) != inventory:
                await self._greet(inventory)
                self._offers[inventory.host] = inventory

    async def _greet(self, inventory: HostInventory) -> None:
        await ensure_host_consumer(self.log.js, inventory.host)
        await self.filters.greet(inventory.host, inventory.capabilities)
        fields = {
            "driver": inventory.driver,
            "hypervisor_type": inventory.hypervisor_type,
            "hypervisor_version": inventory.hypervisor_version,
            "vcpus": inventory.vcpus,
            "memory_mb": inventory.memory_mb,
            "disk_gb": inventory.disk_gb,
            "host_ip": inventory.host_ip,
            "cpu_info": inventory.cpu_info,
            "capabilities": inventory.capabilities,
            "up": True,
            "down_since": None,
        }
        id_ = host_id(inventory.host)
        context = CommandContext(SERVICE, f"req-{uuid5(NAMESPACE_OID, f'inventory/{inventory.host}')}")
        known = await self.commands.load("host", id_)
        if known is None:
            self._last_number = 1 + max(self._last_number, *(host.number for host in self.capacity.hosts.values()), 0)
            new = {"name": inventory.host, "number": self._last_number, **fields}
            state = await self.commands.create("host", new, context, id=id_, verb="register", visible=False)
        else:
            changes = {key: value for key, value in fields.items() if getattr(known, key) != value}
            update = partial(self.commands.update, "host", id_, changes, context, verb="report", visible=False)
            state = await update() if changes else known
        self._up[inventory.host] = True
        self._order_anew(inventory.host)  # the agent began anew: what it had taken would come back only later
        self.capacity.apply_host(cast(Host, state))

    def _order_anew(self, host: str) -> None:
        for server, recorded in list(self._out.values()):
            if server.host == host:
                self._spawn(partial(self.orders.publish, server, recorded.position))

    async def _watch_hosts(self) -> None:
        """Whether each host answers, kept in its aggregate when it changes."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self._keep_troubles()
            for name, host in list(self.capacity.hosts.items()):
                up = self._watch.answers(name)
                if up == self._up.get(name, host.up):
                    continue
                self._up[name] = up
                change = {"up": up, "down_since": None if up else datetime.now(UTC)}
                log_.warning("host answers again" if up else "host does not answer", host=name)
                context = CommandContext(SERVICE, f"req-{uuid5(NAMESPACE_OID, f'watch/{name}/{host.version}')}")
                try:
                    await self.commands.update("host", host.id, change, context, verb="up" if up else "down")
                except Rejected as rejected:
                    self._up.pop(name)
                    log_.warning("host state not kept", host=name, reason=rejected.reason)
                if up:
                    self._order_anew(name)

    async def _keep_troubles(self) -> None:
        """Which hosts live and can take no orders, kept in their aggregates when it changes."""
        for host in [one for one in self.capacity.hosts.values() if one.disabled or one.name in self._watch.troubles]:
            change = troubles.change_for(host, self._watch.troubles.get(host.name, ""))
            if not change or not self._watch.heard_once(host.name):
                continue
            log_.warning("host takes no orders" if change["disabled"] else "host takes orders again", host=host.name)
            context = CommandContext(SERVICE, f"req-{uuid5(NAMESPACE_OID, f'trouble/{host.name}/{host.version}')}")
            try:
                state = await self.commands.update("host", host.id, change, context, verb="trouble")
                self.capacity.apply_host(cast(Host, state))
            except Rejected as rejected:
                log_.warning("host state not kept", host=host.name, reason=rejected.reason)


def _same_operation(now: Server, then: Server) -> bool:
    """Whether what a step was done for still goes on: not ended, not cancelled, not being taken back."""
    a, b = now.operation, then.operation
    return a is not None and b is not None and (a.request_id, a.undoing) == (b.request_id, b.undoing)


def _same_step(now: Server, then: Server) -> bool:
    """Whether the step that was worked on is still the one in progress."""
    a, b = now.operation, then.operation
    return a is not None and b is not None and _doing(a) == _doing(b)


def _doing(operation: Operation) -> Doing:
    """What tells one try of one step from every other."""
    return operation.request_id, operation.step, operation.attempt, operation.undoing, operation.step_started_at


__all__ = ["Conductor", "host_id"]
