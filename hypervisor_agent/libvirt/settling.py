"""What a reset-state left behind: the order before was cancelled somewhere, and the guest gets what its server has.

Swaps are turned back first, for a volume that is half copied cannot be taken out. Each part is the order of its own
kind, which sees in the live guest what is done already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any

import msgspec

from hypervisor_agent.libvirt import interfaces, volumes
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]
Part = Callable[[Work], Awaitable[Details]]

_PARTS: tuple[tuple[str, str, Part], ...] = (
    ("volumes_out", "volume", volumes.detach),
    ("volumes_in", "volume", volumes.attach),
    ("nics_out", "nic", interfaces.detach),
    ("nics_in", "nic", interfaces.attach),
)


async def settle(work: Work) -> Details:
    if work.known is None:
        return {}  # nothing of the guest came to be on this host
    wanted = work.order.params
    for swap in wanted.get("swaps", ()):
        await _part(work, volumes.swap, swap)
    for key, name, part in _PARTS:
        for device in wanted.get(key, ()):
            await _part(work, part, {name: device})
    return {}


async def _part(work: Work, part: Part, params: dict[str, Any]) -> None:
    one = copy(work)
    one.order = msgspec.structs.replace(work.order, params=params)
    await part(one)
    work.known = one.known
