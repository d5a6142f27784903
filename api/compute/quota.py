"""Quotas: what a project may have, and whether a request still fits.

Limits come from, in this order: the project's own quotas, the deployment's default class, the built-in defaults (-1: no
limit). They are kept in aggregates, so that every change of them is in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import NAMESPACE_OID, uuid5

import msgspec

from api.compute.call import Call
from commands.appending import step_aside
from commands.context import Answer, CommandContext
from commands.handler import BUSY
from domain import quotas
from domain.errors import Conflict, Forbidden, Rejected, Unavailable
from domain.resources import Blob, Project, QuotaClaim, QuotaClaims, decode
from domain.server import FlavorSnapshot, Server

if TYPE_CHECKING:
    from api.services import Services

DEFAULTS: dict[str, int] = {
    "instances": -1,
    "cores": -1,
    "ram": -1,
    "metadata_items": 128,
    "key_pairs": 100,
    "server_groups": -1,
    "server_group_members": 10,
    "injected_files": 5,
    "injected_file_content_bytes": 10240,
    "injected_file_path_bytes": 255,
}
# Of the network: shown by old microversions only, never limited here.
NETWORK: dict[str, int] = {"floating_ips": -1, "fixed_ips": -1, "security_groups": -1, "security_group_rules": -1}
KIND = "quota_claims"
COUNTED_SECONDS = 10.0  # how long a request of a limited project may wait for the read model to have the last claim
FILES = frozenset({"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"})

# The aggregate that holds every project's defaults (Nova's quota class "default"), as JSON.
CLASS_BLOB = str(uuid5(NAMESPACE_OID, "chronova:quota-class:default"))


class Served(Protocol):
    """A request of any API, as far as limits are looked up for it."""

    @property
    def services(self) -> Services: ...


class Asked(Served, Protocol):
    """A request that may take room."""

    @property
    def context(self) -> CommandContext: ...


async def limits_of(call: Served, project_id: str | None) -> dict[str, int]:
    """Every limit that holds for a project."""
    limits = DEFAULTS | await class_limits(call)
    if project_id is not None:
        project = await call.services.read.resource("project", project_id)
        if project is not None:
            limits |= {name: value for name, value in cast("Project", project).quotas.items() if name in DEFAULTS}
    return limits


async def class_limits(call: Served) -> dict[str, int]:
    held = await call.services.read.resource("blob", CLASS_BLOB)
    return {} if held is None or held.deleted else msgspec.json.decode(cast("Blob", held).text, type=dict[str, int])


@asynccontextmanager
async def room(
    call: Call, flavor: FlavorSnapshot, low: int, high: int, ids_of: Callable[[int], list[str]]
) -> AsyncIterator[list[str]]:
    """The ids of as many of `low` to `high` servers of this flavor as still fit; they are created in the block.

    Raises `Forbidden` when fewer than `low` fit. A project without limits waits for nothing; else the room is claimed
    in the log first, whatever process serves the request, and given back if the block does not create them.
    """
    limits = await limits_of(call, call.project_id)
    each = {"instances": 1, "cores": flavor.vcpus, "ram": flavor.ram}
    if all(limits[name] < 0 for name in each):
        yield ids_of(high)
        return
    made = await _made_before(call, ids_of(high))
    if made:
        yield made
        return
    project = call.project_id or "none"

    def claim(room: quotas.Amounts, now: datetime) -> QuotaClaim:
        ids = ids_of(quotas.fitting(limits, room, each, low, high))
        return QuotaClaim(tuple(ids), each["cores"], each["ram"], now)

    async with _turn(call, project):
        ids = list((await _claim(call, project, claim)).servers)
    try:
        yield ids
    except Rejected:
        await _give_back(call, project, set(ids))
        raise


async def resized(call: Asked, server: Server, flavor: FlavorSnapshot, give: Callable[[], Awaitable[Answer]]) -> Answer:
    """Give a resize, with the room for what it adds claimed before. Raises `Forbidden` when that does not fit.

    What is refused anyway claims nothing, and is not told what there is. From its acceptance on what it adds is counted
    with what is used, until it ended or was taken back.
    """
    limits, project = await limits_of(call, server.project_id), server.project_id or "none"
    more = quotas.growth(server, flavor)
    unlimited = limits["cores"] < 0 and limits["ram"] < 0
    if unlimited or not any(more.values()):
        return await give()
    refused = await _refusal(call, server, flavor)
    if await _given_before(call, server):
        return await give()
    if refused is not None and refused.reason != BUSY:  # for that the command waits a little
        refused.recorded = call.context.dry_run
        raise refused
    request_id = call.context.request_id

    def claim(room: quotas.Amounts, now: datetime) -> QuotaClaim:
        quotas.fitting(limits, room, more, 1, 1)
        return QuotaClaim((server.id,), more["cores"], more["ram"], now, request_id)

    if call.context.dry_run:
        claim((await _room(call, project))[1], datetime.now(UTC))
        return await give()
    async with _turn(call, project):
        await _claim(call, project, claim)
    try:
        answer = await give()
    except Rejected:
        await _give_back(call, project, {request_id})
        raise
    if answer.request_id != request_id or not answer.changed:  # somebody gave the same at the same time
        await _give_back(call, project, {request_id})
    return answer


async def _refusal(call: Asked, server: Server, flavor: FlavorSnapshot) -> Rejected | None:
    """Why the resize would be refused now, whatever room there is."""
    wanted, tried = {"flavor": msgspec.to_builtins(flavor)}, replace(call.context, dry_run=True)
    try:
        await call.services.commands.server("resize", server.id, wanted, tried)
    except Rejected as refused:
        return refused
    return None


async def _given_before(call: Asked, server: Server) -> bool:
    """Whether a first request with this Idempotency-Key was accepted for the server: its repeat takes no more room."""
    key, user = call.context.idempotency_key, call.context.actor.user_id
    if key is None:
        return False
    metas = [one.commit.meta for one in await call.services.log.read("server", server.id)]
    return any(meta.idempotency_key == key and meta.actor.user_id == user for meta in metas)


async def _made_before(call: Call, ids: list[str]) -> list[str]:
    """The servers that a first request with this Idempotency-Key made: its repeat takes no more room."""
    if call.context.idempotency_key is None:
        return []
    commands = call.services.commands
    return [id_ for id_ in ids if await commands.load_server(id_) is not None]


async def _claim(call: Asked, project: str, claim: Callable[[quotas.Amounts, datetime], QuotaClaim]) -> QuotaClaim:
    """Keep what `claim` decides, seeing what is used; it raises `Forbidden` when that is too much."""
    for attempt in range(call.services.commands.settings.conflict_retries):
        await step_aside(attempt)
        state, used, claims = await _room(call, project)
        mine = claim(used, datetime.now(UTC))
        if await _kept(call, project, state, (*claims, mine)):
            return mine
    raise Conflict("The quota of the project is claimed by too many at once", hint="Send the request again.")


async def _room(call: Asked, project: str) -> tuple[QuotaClaims | None, dict[str, int], tuple[QuotaClaim, ...]]:
    """The newest claims, what is used including them, and those of them that are not counted yet."""
    commands, read = call.services.commands, call.services.read
    newest = await commands.last(KIND, project)
    if newest is not None and not await read.wait_for(newest.position, COUNTED_SECONDS):
        raise Unavailable("The servers of the project are not counted yet", hint="Send the request again.")
    state = None if newest is None else cast("QuotaClaims", decode(KIND, newest.commit.state))
    counted, used = await _counted(call, project, state)
    claims = quotas.open_claims(state, counted, datetime.now(UTC))
    return state, quotas.used_with(used, claims), claims


async def _counted(call: Asked, project: str, state: QuotaClaims | None) -> tuple[set[str], dict[str, int]]:
    """The claimed servers and resizes that the read model knows, and what it counts, of one and the same moment."""
    read = call.services.read
    claims = state.claims if state is not None else ()

    async def known() -> tuple[set[str], dict[str, int]]:
        resizing = [quotas.growth(server) for server in await read.resizing(project)]
        resizes = [one.resize for one in claims if one.resize and await read.action(one.servers[0], one.resize)]
        created = [id_ for one in claims if not one.resize for id_ in one.servers if await read.server(id_) is not None]
        return {*resizes, *created}, {name: sum(one[name] for one in resizing) for name in ("cores", "ram")}

    before = await known()
    while True:
        usage = await read.usage(project)
        after = await known()
        if after == before:
            counted, more = after
            return counted, {
                "instances": usage.instances,
                "cores": usage.cores + more["cores"],
                "ram": usage.ram + more["ram"],
            }
        before = after


async def _kept(call: Asked, id_: str, state: QuotaClaims | None, claims: tuple[QuotaClaim, ...]) -> bool:
    """Whether the claims could be appended to the state that they were decided on."""
    commands, context = call.services.commands, _context(call)
    plain = msgspec.to_builtins(claims)

    def check(now: QuotaClaims) -> dict[str, Any]:
        if state is None or now.version != state.version:
            raise Conflict("Claimed by another request", hint="Send the request again.")
        return {"claims": plain}

    try:
        if state is None:
            await commands.create(KIND, {"claims": plain}, context, id=id_, verb="claim", visible=False)
        else:
            await commands.update(KIND, id_, {}, context, verb="claim", check=check, visible=False)
    except Conflict:
        return False
    return True


async def _give_back(call: Asked, project: str, names: set[str]) -> None:
    """Let go of the claims for these servers, or of these resizes."""

    def check(now: QuotaClaims) -> dict[str, Any]:
        left = [one for one in now.claims if not names & ({one.resize} if one.resize else {*one.servers})]
        return {"claims": msgspec.to_builtins(left)}

    with suppress(Rejected):  # it ends by itself
        await call.services.commands.update(
            KIND, project, {}, _context(call), verb="release", check=check, visible=False
        )


def _context(call: Asked) -> CommandContext:
    """The caller's, without what belongs to the server that is created or resized."""
    return replace(call.context, idempotency_key=None, if_match=None)


@dataclass
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


_turns: dict[tuple[int, str], _Turn] = {}  # by project, while somebody claims or waits


@asynccontextmanager
async def _turn(call: Asked, project: str) -> AsyncIterator[None]:
    """Requests of one process claim one after another: each would only lose to the others."""
    key = (id(call.services), project)
    turn = _turns.setdefault(key, _Turn())
    turn.users += 1
    try:
        async with turn.lock:
            yield
    finally:
        turn.users -= 1
        if not turn.users:
            del _turns[key]


async def check_items(call: Call, wanted: dict[str, Any]) -> None:
    """Metadata items of one server."""
    most = (await limits_of(call, call.project_id))["metadata_items"]
    if 0 <= most < len(wanted.get("metadata", {})):
        raise Forbidden(f"Maximum number of metadata items exceeds {most}", reason="quota")
