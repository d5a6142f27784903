"""Quotas: what a project may have, and whether a request still fits.

Limits come from, in this order: the project's own quotas, the deployment's default class, the built-in defaults (-1: no
limit). They are kept in aggregates, so that every change of them is in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import NAMESPACE_OID, uuid5

import msgspec

from api.compute.call import Call
from domain.errors import Forbidden
from domain.resources import Blob, Project
from domain.server import FlavorSnapshot

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
COUNTED_SECONDS = 10.0  # how long a limited project's next request may wait for the read model to count the last one
FILES = frozenset({"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"})

# The aggregate that holds every project's defaults (Nova's quota class "default"), as JSON.
CLASS_BLOB = str(uuid5(NAMESPACE_OID, "chronova:quota-class:default"))


async def limits_of(call: Call, project_id: str | None) -> dict[str, int]:
    """Every limit that holds for a project."""
    limits = DEFAULTS | await class_limits(call)
    if project_id is not None:
        project = await call.services.read.resource("project", project_id)
        if project is not None:
            limits |= {name: value for name, value in cast("Project", project).quotas.items() if name in DEFAULTS}
    return limits


async def class_limits(call: Call) -> dict[str, int]:
    held = await call.services.read.resource("blob", CLASS_BLOB)
    return {} if held is None or held.deleted else msgspec.json.decode(cast("Blob", held).text, type=dict[str, int])


@asynccontextmanager
async def room(call: Call, flavor: FlavorSnapshot, low: int, high: int) -> AsyncIterator[int]:
    """How many of `low` to `high` servers of this flavor still fit. Raises `Forbidden` when fewer than `low` do.

    What is created in the block counts for the next request of the project in this process, which waits until then;
    projects without a limit wait for nothing.
    """
    limits = await limits_of(call, call.project_id)
    asked = {"instances": 1, "cores": flavor.vcpus, "ram": flavor.ram}
    if all(limits[name] < 0 for name in asked):
        yield high
        return
    async with _turn(call.project_id or ""):
        yield await _fitting(call, limits, asked, low, high)
        await call.services.read.wait_for(await call.services.log.last_position(), COUNTED_SECONDS)


@dataclass
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


_turns: dict[str, _Turn] = {}  # by project, while somebody creates or waits


@asynccontextmanager
async def _turn(project_id: str) -> AsyncIterator[None]:
    turn = _turns.setdefault(project_id, _Turn())
    turn.users += 1
    try:
        async with turn.lock:
            yield
    finally:
        turn.users -= 1
        if not turn.users:
            del _turns[project_id]


async def _fitting(call: Call, limits: dict[str, int], asked: dict[str, int], low: int, high: int) -> int:
    usage = await call.services.read.usage(call.project_id or "")
    used = {"instances": usage.instances, "cores": usage.cores, "ram": usage.ram}
    room = {name: (limits[name] - used[name]) // each for name, each in asked.items() if limits[name] >= 0 and each}
    count = min(high, *room.values())
    if count >= low:
        return count
    short = sorted(name for name, fits in room.items() if fits < low)
    first = short[0]
    each = asked[first]
    several = f"{each * low}-{each * high}" if low != high else f"{each * low}"
    raise Forbidden(
        f"Quota exceeded for {', '.join(short)}: Requested {several}, but already used {used[first]} of "
        f"{limits[first]} {first}",
        reason="quota",
    )


async def check_items(call: Call, wanted: dict[str, Any]) -> None:
    """Metadata items of one server."""
    most = (await limits_of(call, call.project_id))["metadata_items"]
    if 0 <= most < len(wanted.get("metadata", {})):
        raise Forbidden(f"Maximum number of metadata items exceeds {most}", reason="quota")
