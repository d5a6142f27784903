"""Choosing a host for a server: filters that drop hosts, weighers that order the rest, and the evidence of both.

Pure: the caller gives the hosts as they are. Filters and weighers follow Nova's (spec: scheduler.md), reduced to what
one flat list of hosts needs. The decision keeps, per host, the first filter that dropped it with what was needed and
what there was, so that "no valid host" can be explained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    capabilities: tuple[str, ...] = ()
    failed_builds: int = 0


class Demand(msgspec.Struct, frozen=True):
    """What has to be placed."""

    flavor: FlavorSnapshot
    availability_zone: str | None = None
    forced_host: str | None = None
    excluded: tuple[str, ...] = ()
    same_host: tuple[str, ...] = ()  # hosts of the servers named by the hint
    different_host: tuple[str, ...] = ()
    group_policy: str | None = None
    group_hosts: tuple[str, ...] = ()  # hosts of the group's members, one entry per member
    group_limit: int = 1
    local_disk: bool = True  # the root disk takes room on the host


class Dropped(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a host was not taken."""

    host: str
    filter: str
    need: str
    have: str


WEIGHTS_KEPT = 20  # in every commit that places a server


class Placement(msgspec.Struct, frozen=True):
    """The decision: the chosen host (null: none), the weights of those that passed, the evidence for the others."""

    host: str | None
    weights: dict[str, float]
    dropped: tuple[Dropped, ...]

    def evidence(self) -> dict[str, Any]:
        """What the log keeps of the decision: why each host was dropped, and the heaviest of those that passed."""
        kept = dict(sorted(self.weights.items(), key=lambda one: -one[1])[:WEIGHTS_KEPT])
        evidence: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(self, weights=kept))
        return evidence

    def summary(self) -> str:
        """One sentence for people: how many hosts each filter dropped."""
        if not self.dropped:
            return "No host is registered."
        counts: dict[str, int] = {}
        for one in self.dropped:
            counts[one.filter] = counts.get(one.filter, 0) + 1
        return "; ".join(f"{name}: {count} host{'s' if count > 1 else ''} dropped" for name, count in counts.items())


Filter = Callable[[HostView, Demand], tuple[str, str] | None]  # None: passes; else (need, have)


def _forced(host: HostView, demand: Demand) -> tuple[str, str] | None:
    if demand.forced_host is None or demand.forced_host == host.name:
        return None
    return demand.forced_host, host.name


def _not_tried(host: HostView, demand: Demand) -> tuple[str, str] | None:
    return ("a host not tried before", "tried in this request") if host.name in demand.excluded else None


def _alive(host: HostView, demand: Demand) -> tuple[str, str] | None:
    if not host.up:
        return "a host whose agent answers", "no heartbeat"
    return ("an enabled host", "disabled by an operator") if host.disabled else None


def _zone(host: HostView, demand: Demand) -> tuple[str, str] | None:
    wanted = demand.availability_zone
    return None if wanted in (None, host.availability_zone) else (str(wanted), host.availability_zone)


def _room(need: float, total: float, used: float, unit: str) -> tuple[str, str] | None:
    free = total - used
    return None if need <= free else (f"{need:.12g} {unit}", f"{max(free, 0):.12g} of {total:.12g} {unit} free")


def _cpu(host: HostView, demand: Demand) -> tuple[str, str] | None:
    if demand.flavor.vcpus > host.vcpus * CPU_RATIO:
        return f"{demand.flavor.vcpus} vCPUs", f"{host.vcpus} cores"
    return _room(demand.flavor.vcpus, host.vcpus * CPU_RATIO, host.used_vcpus, "vCPUs")


def _ram(host: HostView, demand: Demand) -> tuple[str, str] | None:
    return _room(demand.flavor.ram, host.memory_mb, host.used_memory_mb, "MB of memory")


def _disk(host: HostView, demand: Demand) -> tuple[str, str] | None:
    need = disk_of(demand.flavor) if demand.local_disk else demand.flavor.ephemeral
    return _room(need, host.disk_gb, host.used_disk_gb, "GB of disk")


def _same_host(host: HostView, demand: Demand) -> tuple[str, str] | None:
    if not demand.same_host or host.name in demand.same_host:
        return None
    return f"one of {', '.join(demand.same_host)}", host.name


def _different_host(host: HostView, demand: Demand) -> tuple[str, str] | None:
    return ("another host", host.name) if host.name in demand.different_host else None


def _group(host: HostView, demand: Demand) -> tuple[str, str] | None:
    members = demand.group_hosts.count(host.name)
    if demand.group_policy == "anti-affinity" and members >= demand.group_limit:
        return f"fewer than {demand.group_limit} members of the group", f"{members} on this host"
    if demand.group_policy == "affinity" and demand.group_hosts and not members:
        return f"the group's host {demand.group_hosts[0]}", host.name
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
    members = demand.group_hosts.count(host.name)
    return {"soft-affinity": members, "soft-anti-affinity": -members}.get(demand.group_policy or "", 0)


Weigher = Callable[[HostView, Demand], float]

WEIGHERS: tuple[tuple[float, Weigher], ...] = (
    (1.0, lambda host, demand: max(0.0, host.memory_mb - host.used_memory_mb)),
    (1.0, lambda host, demand: max(0.0, host.vcpus * CPU_RATIO - host.used_vcpus)),
    (1.0, lambda host, demand: max(0.0, host.disk_gb - host.used_disk_gb)),
    (1.0, _group_weight),
    (-1_000_000.0, lambda host, demand: float(host.failed_builds)),
)


def place(hosts: Sequence[HostView], demand: Demand) -> Placement:
    """Choose a host. Ties go to the one with fewer servers, then to the first name: the choice is repeatable."""
    dropped: list[Dropped] = []
    passed: list[HostView] = []
    for host in hosts:
        for name, check in FILTERS:
            verdict = check(host, demand)
            if verdict is not None:
                dropped.append(Dropped(host.name, name, *verdict))
                break
        else:
            passed.append(host)
    weights = _weigh(passed, demand)
    best = min(passed, key=lambda host: (-weights[host.name], host.servers, host.name), default=None)
    return Placement(best.name if best else None, weights, tuple(dropped))


def _weigh(hosts: Sequence[HostView], demand: Demand) -> dict[str, float]:
    weights = dict.fromkeys((host.name for host in hosts), 0.0)
    for multiplier, weigher in WEIGHERS:
        values = {host.name: weigher(host, demand) for host in hosts}
        low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
        if high > low:
            for name, value in values.items():
                weights[name] += multiplier * (value - low) / (high - low)
    return {name: round(weight, 6) for name, weight in weights.items()}
