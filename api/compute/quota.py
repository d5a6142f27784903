"""Quotas: what a project may have, and whether a request still fits.

Limits come from, in this order: the project's own quotas, the deployment's default class, the built-in defaults (-1: no
limit). They are kept in aggregates, so that every change of them is in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import NAMESPACE_OID, uuid5

import msgspec

from api.compute.call import Call
from commands.appending import step_aside
from commands.context import CommandContext
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
    async with _turn(call):
        ids = await _claim(call, limits, each, low, high, ids_of)
    try:
        yield ids
    except Rejected:
        await _give_back(call, ids)
        raise


async def must_have_room_to_grow(call: Served, server: Server, flavor: FlavorSnapshot) -> None:
    """Raise `Forbidden` when what a resize adds does not fit. Nothing is claimed: it is counted when it is done."""
    limits = await limits_of(call, server.project_id)
    if server.flavor is None or (limits["cores"] < 0 and limits["ram"] < 0):
        return
    more = {
        "cores": max(0, flavor.vcpus - server.flavor.vcpus),
        "ram": max(0, flavor.ram - server.flavor.ram),
    }
    usage = await call.services.read.usage(server.project_id)
    quotas.fitting(limits, {"cores": usage.cores, "ram": usage.ram}, more, 1, 1)


async def _made_before(call: Call, ids: list[str]) -> list[str]:
    """The servers that a first request with this Idempotency-Key made: its repeat takes no more room."""
    if call.context.idempotency_key is None:
        return []
    commands = call.services.commands
    return [id_ for id_ in ids if await commands.load_server(id_) is not None]


async def _claim(
    call: Call, limits: dict[str, int], each: dict[str, int], low: int, high: int, ids_of: Callable[[int], list[str]]
) -> list[str]:
    commands, read, id_ = call.services.commands, call.services.read, call.project_id or "none"
    for attempt in range(commands.settings.conflict_retries):
        await step_aside(attempt)
        newest = await commands.last(KIND, id_)
        if newest is not None and not await read.wait_for(newest.position, COUNTED_SECONDS):
            raise Unavailable("The servers of the project are not counted yet", hint="Send the request again.")
        state = None if newest is None else cast("QuotaClaims", decode(KIND, newest.commit.state))
        now = datetime.now(UTC)
        counted, used = await _counted(call, state)
        claims = quotas.open_claims(state, counted, now)
        ids = ids_of(quotas.fitting(limits, quotas.used_with(used, claims), each, low, high))
        mine = QuotaClaim(tuple(ids), each["cores"], each["ram"], now)
        if await _kept(call, id_, state, (*claims, mine)):
            return ids
    raise Conflict("The quota of the project is claimed by too many at once", hint="Send the request again.")


async def _counted(call: Call, state: QuotaClaims | None) -> tuple[set[str], dict[str, int]]:
    """The claimed servers that the read model knows, and what it counts, of one and the same moment."""
    read = call.services.read
    claimed = [server for claim in state.claims for server in claim.servers] if state is not None else []

    async def known() -> set[str]:
        return {server for server in claimed if await read.server(server) is not None}

    counted = await known()
    while True:
        usage = await read.usage(call.project_id or "")
        if (after := await known()) == counted:
            return counted, {"instances": usage.instances, "cores": usage.cores, "ram": usage.ram}
        counted = after


async def _kept(call: Call, id_: str, state: QuotaClaims | None, claims: tuple[QuotaClaim, ...]) -> bool:
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


async def _give_back(call: Call, ids: list[str]) -> None:
    def check(now: QuotaClaims) -> dict[str, Any]:
        left = [one for one in now.claims if not set(one.servers) & set(ids)]
        return {"claims": msgspec.to_builtins(left)}

    with suppress(Rejected):  # it ends by itself
        await call.services.commands.update(
            KIND, call.project_id or "none", {}, _context(call), verb="release", check=check, visible=False
        )


def _context(call: Call) -> CommandContext:
    """The caller's, without what belongs to the server that is created."""
    return replace(call.context, idempotency_key=None, if_match=None)


@dataclass
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


_turns: dict[tuple[int, str | None], _Turn] = {}  # by project, while somebody claims or waits


@asynccontextmanager
async def _turn(call: Call) -> AsyncIterator[None]:
    """Requests of one process claim one after another: each would only lose to the others."""
    key = (id(call.services), call.project_id)
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
