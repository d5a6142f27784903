"""Choosing a host for a server: filters that drop hosts, weighers that order the rest, and the evidence of both.

Pure: the caller gives the hosts as they are, those that look the same together (`domain.fleet`): a decision costs as
much as there are different looks, not hosts. Filters and weighers follow Nova's (spec: scheduler.md), reduced to what
one flat list of hosts needs. The decision keeps, per host, the first filter that dropped it with what was needed and
what there was, so that "no valid host" can be explained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from domain.server import FlavorSnapshot

CPU_RATIO = 4.0  # virtual CPUs per core, as Nova's initial_cpu_allocation_ratio
NO_VALID_HOST = "No valid host was found. There are not enough hosts available."


class HostView(msgspec.Struct, frozen=True):
    """A host with what is placed on it. MiB of memory, GiB of disk."""

    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    used_vcpus: int = 0
    used_memory_mb: int = 0
    used_disk_gb: int = 0
    servers: int = 0
    up: bool = True
    disabled: bool = False
    availability_zone: str = "nova"
    failed_builds: int = 0


class Alike(msgspec.Struct, frozen=True):
    """Hosts that differ in nothing but their names, which ascend and are one at least. `look` has no name."""

    look: HostView
    names: Sequence[str]


class Demand(msgspec.Struct, frozen=True):
    """What has to be placed."""

    flavor: FlavorSnapshot
    availability_zone: str | None = None
    forced_host: str | None = None
    excluded: tuple[str, ...] = ()
    same_host: tuple[str, ...] = ()  # hosts of the servers named by the hint
    different_host: tuple[str, ...] = ()
    group_policy: str | None = None
    group_hosts: dict[str, int] = {}  # the hosts of the group's members, with how many there are
    group_limit: int = 1
    local_disk: bool = True  # the root disk takes room on the host

    def named(self) -> set[str]:
        """The hosts whose names matter here: no other host is like them."""
        forced = () if self.forced_host is None else (self.forced_host,)
        return {*forced, *self.excluded, *self.same_host, *self.different_host, *self.group_hosts}


class Dropped(msgspec.Struct, frozen=True):
    """Why some hosts were not taken. `have` is null where it is each host's own name."""

    hosts: tuple[str, ...]
    filter: str
    need: str
    have: str | None


WEIGHTS_KEPT = 20  # in every commit that places a server


class Placement(msgspec.Struct, frozen=True):
    """The decision: the chosen host (null: none), the heaviest of those that passed, the evidence for the others."""

    host: str | None
    weights: dict[str, float]
    dropped: tuple[Dropped, ...]

    def evidence(self) -> dict[str, Any]:
        """What the log keeps of the decision."""
        evidence: dict[str, Any] = msgspec.to_builtins(self)
        return evidence

    def summary(self) -> str:
        """One sentence for people: how many hosts each filter dropped."""
        if not self.dropped:
            return "No host is registered."
        counts: dict[str, int] = {}
        for one in self.dropped:
            counts[one.filter] = counts.get(one.filter, 0) + len(one.hosts)
        return "; ".join(f"{name}: {count} host{'s' if count > 1 else ''} dropped" for name, count in counts.items())


Verdict = tuple[str, str | None] | None  # None: passes; else (need, have), as in `Dropped`
Filter = Callable[[HostView, Demand], Verdict]


def _forced(host: HostView, demand: Demand) -> Verdict:
    if demand.forced_host is None or demand.forced_host == host.name:
        return None
    return demand.forced_host, None


def _not_tried(host: HostView, demand: Demand) -> Verdict:
    return ("a host not tried before", "tried in this request") if host.name in demand.excluded else None


def _alive(host: HostView, demand: Demand) -> Verdict:
    if not host.up:
        return "a host whose agent answers", "no heartbeat"
    return ("an enabled host", "disabled by an operator") if host.disabled else None


def _zone(host: HostView, demand: Demand) -> Verdict:
    wanted = demand.availability_zone
    return None if wanted in (None, host.availability_zone) else (str(wanted), host.availability_zone)


def _room(need: float, total: float, used: float, unit: str) -> Verdict:
    free = total - used
    return None if need <= free else (f"{need:.12g} {unit}", f"{max(free, 0):.12g} of {total:.12g} {unit} free")


def _cpu(host: HostView, demand: Demand) -> Verdict:
    if demand.flavor.vcpus > host.vcpus * CPU_RATIO:
        return f"{demand.flavor.vcpus} vCPUs", f"{host.vcpus} cores"
    return _room(demand.flavor.vcpus, host.vcpus * CPU_RATIO, host.used_vcpus, "vCPUs")


def _ram(host: HostView, demand: Demand) -> Verdict:
    return _room(demand.flavor.ram, host.memory_mb, host.used_memory_mb, "MB of memory")


def _disk(host: HostView, demand: Demand) -> Verdict:
    need = disk_of(demand.flavor) if demand.local_disk else demand.flavor.ephemeral
    return _room(need, host.disk_gb, host.used_disk_gb, "GB of disk")


def _same_host(host: HostView, demand: Demand) -> Verdict:
    if not demand.same_host or host.name in demand.same_host:
        return None
    return f"one of {', '.join(demand.same_host)}", None


def _different_host(host: HostView, demand: Demand) -> Verdict:
    return ("another host", None) if host.name in demand.different_host else None


def _group(host: HostView, demand: Demand) -> Verdict:
    members = demand.group_hosts.get(host.name, 0)
    if demand.group_policy == "anti-affinity" and members >= demand.group_limit:
        return f"fewer than {demand.group_limit} members of the group", f"{members} on this host"
    if demand.group_policy == "affinity" and demand.group_hosts and not members:
        return f"the group's host {next(iter(demand.group_hosts))}", None
    return None


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("RequestedHost", _forced),
    ("RetryFilter", _not_tried),
    ("ComputeFilter", _alive),
    ("AvailabilityZoneFilter", _zone),
    ("SameHostFilter", _same_host),
    ("DifferentHostFilter", _different_host),
    ("ServerGroupFilter", _group),
    ("VCPU", _cpu),
    ("MEMORY_MB", _ram),
    ("DISK_GB", _disk),
)


def disk_of(flavor: FlavorSnapshot) -> int:
    """GiB that a guest of this flavor takes from a host's disk (swap is in MiB)."""
    return flavor.disk + flavor.ephemeral + (flavor.swap + 1023) // 1024


def _group_weight(host: HostView, demand: Demand) -> float:
    members = demand.group_hosts.get(host.name, 0)
    return {"soft-affinity": members, "soft-anti-affinity": -members}.get(demand.group_policy or "", 0)


Weigher = Callable[[HostView, Demand], float]

WEIGHERS: tuple[tuple[float, Weigher], ...] = (
    (1.0, lambda host, demand: max(0.0, host.memory_mb - host.used_memory_mb)),
    (1.0, lambda host, demand: max(0.0, host.vcpus * CPU_RATIO - host.used_vcpus)),
    (1.0, lambda host, demand: max(0.0, host.disk_gb - host.used_disk_gb)),
    # More than all room together: else the emptier host would always win, and soft-affinity never keep two together.
    (4.0, _group_weight),
    (-1_000_000.0, lambda host, demand: float(host.failed_builds)),
)


def place(fleet: Iterable[Alike], demand: Demand) -> Placement:
    """Choose a host. Ties go to the one with fewer servers, then to the first name: the choice is repeatable.

    No host that the demand names may stand together with others (`domain.fleet.Fleet.apart`).
    """
    dropped: dict[tuple[str, str, str | None], list[str]] = {}
    passed: list[tuple[HostView, Sequence[str]]] = []
    for alike in fleet:
        one = msgspec.structs.replace(alike.look, name=alike.names[0])
        for name, check in FILTERS:
            verdict = check(one, demand)
            if verdict is not None:
                dropped.setdefault((name, *verdict), []).extend(alike.names)
                break
        else:
            passed.append((one, alike.names))
    weights = _weigh([one for one, _ in passed], demand)
    ranked = sorted(
        (-weight, one.servers, one.name, names) for weight, (one, names) in zip(weights, passed, strict=True)
    )
    return Placement(
        host=ranked[0][2] if ranked else None,
        weights=_heaviest([(-lightness, names) for lightness, _, _, names in ranked]),
        dropped=tuple(Dropped(tuple(sorted(hosts)), *why) for why, hosts in dropped.items()),
    )


def _weigh(hosts: Sequence[HostView], demand: Demand) -> list[float]:
    """Each weigher's values are spread over 0 to 1, whatever their unit, and then weigh as much as its multiplier."""
    weights = [0.0] * len(hosts)
    for multiplier, weigher in WEIGHERS:
        values = [weigher(host, demand) for host in hosts]
        low, high = min(values, default=0.0), max(values, default=0.0)
        if high > low:
            weights = [
                weight + multiplier * (value - low) / (high - low)
                for weight, value in zip(weights, values, strict=True)
            ]
    return [round(weight, 6) for weight in weights]


def _heaviest(descending: Iterable[tuple[float, Sequence[str]]]) -> dict[str, float]:
    """The first `WEIGHTS_KEPT` hosts by weight, those of the same weight by name."""
    found: list[tuple[float, str]] = []
    for weight, names in descending:
        if len(found) >= WEIGHTS_KEPT and weight < -found[-1][0]:
            break
        found += [(-weight, name) for name in names[:WEIGHTS_KEPT]]
    return {name: -lightness for lightness, name in sorted(found)[:WEIGHTS_KEPT]}
