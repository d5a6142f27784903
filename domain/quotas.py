"""Whether servers still fit into what a project may have. Pure.

What is used is what the read model counts, and beside it what was granted just now and is not counted yet: claims. All
claims of a project stand in one aggregate, so of two that are decided at once, by whatever processes, one is decided
again and sees the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import msgspec

from domain.errors import Forbidden
from domain.resources import QuotaClaim, QuotaClaims
from domain.server import FlavorSnapshot, Server

CLAIM_SECONDS = 60.0  # a claim of something that has not come by then is of a request that ended without it

Amounts = Mapping[str, int]


def open_claims(state: QuotaClaims | None, counted: Collection[str], now: datetime) -> tuple[QuotaClaim, ...]:
    """The claims that are to be added to what the read model counts. `counted`: servers and resizes that it knows."""
    found = []
    for claim in state.claims if state is not None else ():
        left = tuple(server for server in claim.servers if (claim.resize or server) not in counted)
        if left and now - claim.at < timedelta(seconds=CLAIM_SECONDS):
            found.append(msgspec.structs.replace(claim, servers=left))
    return tuple(found)


def used_with(used: Amounts, claims: Collection[QuotaClaim]) -> dict[str, int]:
    return {
        "instances": used["instances"] + sum(len(one.servers) for one in claims if not one.resize),
        "cores": used["cores"] + sum(len(one.servers) * one.cores for one in claims),
        "ram": used["ram"] + sum(len(one.servers) * one.ram for one in claims),
    }


def growth(server: Server, flavor: FlavorSnapshot | None = None) -> dict[str, int]:
    """What a server takes more with another flavor, or when its resize ends. What it would take less is nothing."""
    if flavor is None and server.operation is not None and "flavor" in server.operation.params:
        flavor = msgspec.convert(server.operation.params["flavor"], FlavorSnapshot)
    if flavor is None or server.flavor is None:
        return {"cores": 0, "ram": 0}
    return {"cores": max(0, flavor.vcpus - server.flavor.vcpus), "ram": max(0, flavor.ram - server.flavor.ram)}


def fitting(limits: Amounts, used: Amounts, each: Amounts, low: int, high: int) -> int:
    """How many of `low` to `high` servers that take `each` still fit. Raises `Forbidden` when fewer than `low` do."""
    room = {name: (limits[name] - used[name]) // one for name, one in each.items() if limits[name] >= 0 and one}
    count = min(high, *room.values()) if room else high
    if count >= low:
        return count
    short = sorted(name for name, fits in room.items() if fits < low)
    first = short[0]
    several = f"{each[first] * low}-{each[first] * high}" if low != high else f"{each[first] * low}"
    raise Forbidden(
        f"Quota exceeded for {', '.join(short)}: Requested {several}, but already used {used[first]} of "
        f"{limits[first]} {first}",
        hint="Delete what is not needed, or ask an administrator for more.",
        reason="quota",
    )
