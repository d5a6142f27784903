"""How slow the simulated hypervisor is, and what goes wrong there: read from its options, or from a server's name.

Options, all optional:

- `latency`: `{order kind or "*": seconds | [least, most] | "hang"}`; "hang" never answers until it is cancelled.
- `failures`: a list of `{"kind": order kind, "name": glob of server names, "probability": 0..1, "times": how often,
  "after": true (fail when the effect is already there), "code": ..., "message": ...}`; absent keys match everything.
- `unsupported`: order kinds that are refused as something this host can not do.
- `seed`: makes probabilities and ranges repeatable.

A server whose name contains `fail-<kind>`, `failonce-<kind>`, `hang-<kind>` or `slow-<kind>` (such as `web-fail-spawn`,
underscores of the kind written as dashes) does what its name says, so that a whole stack can be tested through its API.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from domain.orders import Order
from hypervisor_agent.driver import OrderFailed

SLOW_SECONDS = 2.0  # of a name: long enough to do something to the system meanwhile
# What takes long on a real host.
COPIES = frozenset({"create_disk", "rebuild", "snapshot", "resize", "swap_volume", "snapshot_volumes"})
TELL_SECONDS = 0.5

Latency = float | tuple[float, float] | Literal["hang"]


class FailureRule(msgspec.Struct, forbid_unknown_fields=True):
    """When an order fails. Without `times` it fails for ever."""

    kind: str | None = None
    name: str | None = None
    probability: float = 1.0
    times: int | None = None
    after: bool = False
    code: str = "simulated_failure"
    message: str = ""


class Faults:
    """Latency and failures of one simulated host. Raises `ValueError` for options that mean nothing."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        try:
            self._latency = msgspec.convert(options.get("latency", {}), dict[str, Latency])
            self._rules = msgspec.convert(options.get("failures", []), list[FailureRule])
        except msgspec.ValidationError as error:
            raise ValueError(f"options of the simulated driver: {error}") from error
        self._random = random.Random(options.get("seed"))
        self._failed_once: set[tuple[str, str]] = set()

    async def delay(self, order: Order, tell: Callable[[int], None]) -> None:
        """Take as long as the order takes. One that copies a disk tells every half second how far it is, in percent."""
        latency = self._latency.get(order.kind, self._latency.get("*", 0.0))
        if latency == "hang" or _named(order, "hang"):
            await asyncio.Event().wait()
        elif _named(order, "slow"):
            await _last(order, SLOW_SECONDS, tell)
        elif isinstance(latency, tuple):
            await _last(order, self._random.uniform(*latency), tell)
        elif isinstance(latency, int | float) and latency > 0:
            await _last(order, latency, tell)

    def check(self, order: Order, *, after: bool) -> None:
        """Raise `OrderFailed` if the order has to fail before (or after) its effect."""
        if not after:
            self._check_name(order)
        for rule in self._rules:
            if rule.after is not after or rule.times == 0 or (rule.kind is not None and rule.kind != order.kind):
                continue
            if rule.name is not None and not fnmatchcase(order.spec.name, rule.name):
                continue
            if rule.probability < 1.0 and self._random.random() >= rule.probability:
                continue
            if rule.times is not None:
                rule.times -= 1
            message = rule.message or f"The simulated hypervisor was told to fail {order.kind}. Try it again."
            raise OrderFailed(rule.code, message, changed=after)

    def _check_name(self, order: Order) -> None:
        once = (order.server_id, order.kind)
        if _named(order, "failonce") and once not in self._failed_once:
            self._failed_once.add(once)
        elif not _named(order, "fail"):
            return
        raise OrderFailed(
            "simulated_failure",
            f"The simulated hypervisor fails {order.kind} of a server with this name. Choose another name.",
        )


async def _last(order: Order, seconds: float, tell: Callable[[int], None]) -> None:
    if order.kind not in COPIES or seconds < TELL_SECONDS:
        await asyncio.sleep(seconds)
        return
    left = seconds
    while left > 0:
        tell(int(100 * (1 - left / seconds)))
        await asyncio.sleep(min(left, TELL_SECONDS))
        left -= TELL_SECONDS


def _named(order: Order, what: str) -> bool:
    return f"{what}-{order.kind.replace('_', '-')}" in order.spec.name
