"""The one entry point for every change: authorize, idempotency, precondition, decide, append, answer.

Only `Commands` appends to the log (by `commands.appending`). A command that loses a race is decided again on the state
that won, so its caller gets the refusal that a late caller would have got; so does one that would be refused on a
commit that was only at hand. An answer waits (bounded) until the read
model shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import msgspec
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from commands import policy_names
from commands.appending import Fence, made_by, step_aside
from commands.context import SERVICE, Answer, CommandContext
from commands.rejections import record
from commands.small_aggregates import Check, SmallAggregates
from domain import decide
from domain.decide import Context, NewServer
from domain.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed, Rejected, Unavailable
from domain.machine import BEFORE_CREATE, MACHINE
from domain.policy import allowed
from domain.server import Server, ServerEvent, decode_server, encode_body, encode_server, evolve
from eventlog import checkpoint
from eventlog.envelope import Event, Recorded
from eventlog.log import Conflict as LogConflict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Check", "Commands", "IllegalEvent"]

Decide = Callable[[Server], list[ServerEvent]]
SECRETS = ("password", "admin_password")
BUSY = "busy"  # refused by work that no task_state shows, such as letting go of a volume: worth waiting for a little
BUSY_POLL_SECONDS = 0.1


class IllegalEvent(RuntimeError):
    """A decision that the machine does not allow: a defect of ours, never a caller's mistake. Nothing was appended."""


class Commands(SmallAggregates):
    """Every change of chronova goes through one object of this class per process."""

    def fenced(self, fence: Fence) -> Commands:
        """The same entry point for somebody who may lose the right to use it: `fence` is asked before every append."""
        return Commands(
            self.log,
            visible=self._visible,
            settings=self.settings,
            hosts=self.hosts,
            fence=fence,
            at_hand=self._at_hand,
            precedence=self.precedence,
        )

    # --- servers -------------------------------------------------------------------------------------------------

    async def server(self, command: str, server_id: str, params: dict[str, Any], context: CommandContext) -> Answer:
        """Carry out a command of the machine on one server. Raises `Rejected`."""
        if context.idempotency_key is None or context.dry_run:
            with self.precedence.command():
                return await self._server(command, server_id, params, context)

        async def work() -> dict[str, Any]:
            with self.precedence.command():
                return _told(await self._server(command, server_id, params, context))

        async def found() -> dict[str, Any] | None:
            for one in reversed(await self.log.read("server", server_id)):
                if made_by(one.commit.meta, context):
                    return {"request_id": one.commit.meta.request_id, "position": one.position, "id": server_id}
            return None

        told = await self.idempotency.run(context, [command, server_id, params], found, work)
        server = await self.load_server(server_id)
        assert server is not None, "an answered key names a server that exists"
        version, changed = told.get("version", server.version), told.get("changed", True)
        return Answer(told["request_id"], server_id, version, told["position"], server, changed=changed)

    async def _server(self, command: str, server_id: str, params: dict[str, Any], context: CommandContext) -> Answer:
        if command not in MACHINE.commands or (MACHINE.rule(command).internal and not context.internal):
            raise Invalid(f"There is no such action: {command}", hint="GET /v1/commands lists all.", reason="command")
        sealed = self._seal(params)
        loaded = self._at_hand.get(server_id)
        certain = loaded is None
        if loaded is None:
            loaded = await self.last("server", server_id)
        patience = asyncio.get_running_loop().time() + self.settings.busy_wait
        attempts = 0
        while attempts < self.settings.conflict_retries:
            now = datetime.now(UTC)
            try:
                server = self._visible_server(loaded, server_id, context)
                if not server.deleted:  # a deleted one is not found, whoever asks: `decide` says so
                    self._authorize(command, server, context)
                if context.if_match is not None and context.if_match != server.version:
                    raise PreconditionFailed(
                        f"The server is at version {server.version}, not {context.if_match}",
                        hint="Read it again and decide on what it is now.",
                    )
                events = decide.accept(server, command, sealed, self._decision(context, server, now))
            except Rejected as rejected:
                if not certain:
                    loaded, certain = await self.last("server", server_id), True
                    continue
                if rejected.reason == BUSY and not context.dry_run and asyncio.get_running_loop().time() < patience:
                    with self.precedence.aside():
                        await asyncio.sleep(BUSY_POLL_SECONDS)
                    loaded = await self.last("server", server_id)
                    continue
                rejected.recorded = context.dry_run  # what is only tried is not refused
                if not context.dry_run:
                    await record(self.log.nc, "server", server_id, command, params, context, rejected, now)
                raise
            if not certain and (not events or context.dry_run):
                loaded, certain = await self.last("server", server_id), True
                continue
            attempts += 1
            assert loaded is not None
            if not events or context.dry_run:
                after = _fold(server, events, now)
                return Answer(
                    context.request_id, server_id, after.version, loaded.position, after, changed=bool(events)
                )
            try:
                recorded, after = await self._append_server(loaded, server, events, context, now)
            except LogConflict as conflict:
                loaded, certain = conflict.current, True
                await step_aside(attempts)
                continue
            await self._visible(recorded.position)
            return Answer(context.request_id, server_id, after.version, recorded.position, after)
        raise Conflict(
            f"Instance {server_id} is changing too fast", hint="Send the command again.", reason="too_many_conflicts"
        )

    async def create_servers(self, new: Sequence[NewServer], context: CommandContext) -> list[Answer]:
        """Create servers (all of one request). Their ids are the caller's; with a key they derive from it."""
        if context.idempotency_key is None:
            return [await self._create(one, context) for one in new]
        seed = self.idempotency.seed(context)
        named = [msgspec.structs.replace(one, id=str(uuid5(NAMESPACE_OID, f"{seed}:{i}"))) for i, one in enumerate(new)]

        async def work() -> dict[str, Any]:
            answers = [await self._create(one, context) for one in named]
            return {"answers": [_told(answer) for answer in answers]}

        async def found() -> dict[str, Any] | None:
            there = [one for it in named if (one := await self.last("server", it.id)) is not None]
            known = [(one.commit.meta.request_id, one.commit.id, one.commit.version, one.position) for one in there]
            keys = ("request_id", "id", "version", "position")
            return {"answers": [dict(zip(keys, one, strict=True)) for one in known]} if len(known) == len(new) else None

        request = [
            msgspec.to_builtins(msgspec.structs.replace(one, instance_name="", reservation_id="")) for one in named
        ]
        told = await self.idempotency.run(context, request, found, work)
        answers = []
        for one in told["answers"]:
            server = await self.load_server(one["id"])
            assert server is not None
            answers.append(Answer(one["request_id"], one["id"], one["version"], one["position"], server))
        return answers

    async def _create(self, new: NewServer, context: CommandContext) -> Answer:
        try:
            with self.precedence.command():
                return await self._born(new, context)
        except Rejected as rejected:
            if rejected.code < 500:
                asked = msgspec.to_builtins(new)
                await record(self.log.nc, "server", new.id, "create", asked, context, rejected, datetime.now(UTC))
            raise

    async def _born(self, new: NewServer, context: CommandContext) -> Answer:
        now = datetime.now(UTC)
        if not allowed(
            MACHINE.rule("create").policy, context.actor.roles, context.actor.project_id, context.actor.project_id
        ):
            raise Forbidden(
                "Policy doesn't allow os_compute_api:servers:create to be performed.",
                hint="It needs the role member in the project.",
            )
        if new.user_data:
            blob_id = str(uuid5(NAMESPACE_OID, new.user_data))
            if await self.load("blob", blob_id) is None:
                await self._blob(blob_id, new.user_data, context)
            new = msgspec.structs.replace(new, user_data_id=blob_id)
        if new.admin_password is not None:
            new = msgspec.structs.replace(new, admin_password=self.settings.seal(new.admin_password))
        events = decide.create(new, self._decision(context, None, now))
        empty = Server(id=new.id)
        try:
            recorded, server = await self._append_server(None, empty, events, context, now)
        except LogConflict as conflict:
            if conflict.current is None:
                raise Unavailable("The log answered twice differently", hint="Send the request again.") from conflict
            recorded, server = conflict.current, decode_server(conflict.current.commit.state)
        await self._visible(recorded.position)
        return Answer(context.request_id, new.id, server.version, recorded.position, server)

    async def _blob(self, blob_id: str, text: str, context: CommandContext) -> None:
        try:
            await self.create("blob", {"name": blob_id, "text": text}, context, id=blob_id, visible=False)
        except Conflict:
            return  # the same text was kept by somebody else just now

    async def load_server(self, server_id: str) -> Server | None:
        """The server as the log has it now."""
        loaded = await self.last("server", server_id)
        return None if loaded is None else decode_server(loaded.commit.state)

    async def internal(
        self, server_id: str, choose: Decide, *, causation_id: str, known: Recorded | None = None
    ) -> Server | None:
        """Append what the control plane decides by itself on a server (a step ended, a deadline passed, a guest seen).

        `choose` is called on the newest state, again after a lost race. Returns the state after it, None when
        the server does not exist; no events leave it as it is. `known` is a commit that the caller has at hand and
        takes for the newest: it saves the look, and when it is not the newest the append refuses it.
        """
        loaded = known or await self.last("server", server_id)
        for _ in range(self.settings.conflict_retries):
            if loaded is None:
                return None
            server = decode_server(loaded.commit.state)
            events = choose(server)
            if not events:
                return server
            request_id = events[0].body.request_id
            context = CommandContext(SERVICE, request_id, causation_id=causation_id)
            try:
                _, after = await self._append_server(loaded, server, events, context, datetime.now(UTC))
            except LogConflict as conflict:
                loaded = conflict.current
                continue
            return after
        raise Unavailable(f"Server {server_id} is changing too fast for the control plane", hint="It is tried again.")

    async def ask_agent(
        self, server_id: str, kind: str, params: dict[str, Any], timeout: float = 10.0
    ) -> dict[str, Any]:
        """Ask the host of a server something that changes nothing (console output, diagnostics). Raises `Rejected`."""
        server = await self.load_server(server_id)
        if server is None or server.host is None:
            raise Conflict(f"Instance {server_id} is not ready", hint="It is on no host yet.", reason="no_host")
        payload = msgspec.json.encode({"kind": kind, "server_id": server_id, "params": params})
        try:
            reply = await self.log.nc.request(f"agent.{server.host}.ask", payload, timeout=timeout)
        except (NatsError, NoRespondersError) as error:
            raise Conflict(
                "Service is unavailable at this time.", hint=f"Host {server.host} does not answer.", reason="host_down"
            ) from error
        answer = msgspec.json.decode(reply.data)
        if not answer.get("ok"):
            fault = answer.get("fault") or {}
            raise Conflict(
                fault.get("message", f"Host {server.host} refused"), reason=fault.get("code", "agent"), hint=""
            )
        result: dict[str, Any] = answer.get("result") or {}
        return result

    async def checkpoint(self, key: Ed25519PrivateKey) -> Recorded | None:
        """Sign everything since the last checkpoint; None if there is nothing new. Raises `LogError`, `Rejected`.

        Of several that are made at the same time, one is kept, and returned to all.
        """
        draft = await checkpoint.draft(self.log, key)
        if draft is None:
            return None
        context = CommandContext(SERVICE, f"req-{uuid4()}")
        try:
            return await self.append(
                checkpoint.KIND, checkpoint.ID, draft.after, [draft.event], draft.state, context, datetime.now(UTC)
            )
        except LogConflict as conflict:
            return conflict.current

    # --- inside ----------------------------------------------------------------------------------------------------

    def _visible_server(self, loaded: Recorded | None, server_id: str, context: CommandContext) -> Server:
        server = None if loaded is None else decode_server(loaded.commit.state)
        if server is None or not (context.is_admin or server.project_id == context.actor.project_id):
            raise NotFound(f"Instance {server_id} could not be found.")
        return server

    def _authorize(self, command: str, server: Server, context: CommandContext) -> None:
        rule = MACHINE.rule(command)
        if not allowed(rule.policy, context.actor.roles, context.actor.project_id, server.project_id):
            raise Forbidden(
                f"Policy doesn't allow {policy_names.RULES[command]} to be performed.",
                hint=f"It needs {rule.policy.replace('_', ' ').lower()}.",
            )

    def _decision(self, context: CommandContext, server: Server | None, now: datetime) -> Context:
        host = None if server is None else server.host
        return Context(
            now=now,
            request_id=context.request_id,
            user_id=context.actor.user_id,
            project_id=context.actor.project_id,
            is_admin=context.is_admin,
            host_up=host is None or self.hosts.is_up(host),
            host_lacks=self.hosts.lacks(host),
            deadline_seconds=self.settings.deadline_seconds,
            due_after=self.settings.due_after,
        )

    def _seal(self, params: dict[str, Any]) -> dict[str, Any]:
        if not any(key in params for key in SECRETS):
            return params
        return {
            key: self.settings.seal(value) if key in SECRETS and isinstance(value, str) else value
            for key, value in params.items()
        }

    async def _append_server(
        self,
        loaded: Recorded | None,
        server: Server,
        events: list[ServerEvent],
        context: CommandContext,
        now: datetime,
    ) -> tuple[Recorded, Server]:
        after = server
        pair = (server.vm_state, server.task_state) if server.version else BEFORE_CREATE
        for event in events:
            after = evolve(after, event, now)
            before, pair = pair, (after.vm_state, after.task_state)
            if not MACHINE.legal(event.type, before, pair):
                raise IllegalEvent(f"{event.type} from {before} to {pair}")
        stored = [Event(type=event.type, data=msgspec.Raw(encode_body(event))) for event in events]
        state = encode_server(after)
        recorded = await self.append("server", server.id, loaded, stored, state, context, now)
        if bytes(recorded.commit.state) != state:  # it had been decided before, a moment earlier
            after = decode_server(recorded.commit.state)
        return recorded, after


def _fold(server: Server, events: list[ServerEvent], now: datetime) -> Server:
    for event in events:
        server = evolve(server, event, now)
    return server


def _told(answer: Answer) -> dict[str, Any]:
    return {
        "request_id": answer.request_id,
        "id": answer.server_id,
        "version": answer.version,
        "position": answer.position,
    } | ({} if answer.changed else {"changed": False})
