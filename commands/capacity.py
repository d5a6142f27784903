"""What the hosts have and what is placed on them, folded from the log for the scheduler.

A cache of the log, never another truth: rebuilt at start, kept by every commit that passes. A decision just made is
held (`reserve`) until its commit comes by, so that two decisions in a row do not take the same room.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from commands.hosts import HostWatch
from domain.fleet import Fleet
from domain.resources import Host, ServerGroup
from domain.scheduling import Demand, HostView, Placement, disk_of, place
from domain.server import FlavorSnapshot, Server


@dataclass(frozen=True)
class _Use:
    host: str
    vcpus: int
    memory_mb: int
    disk_gb: int


@dataclass
class Capacity:
    watch: HostWatch
    hosts: dict[str, Host] = field(default_factory=dict)  # by name
    groups: dict[str, ServerGroup] = field(default_factory=dict)
    _uses: dict[str, tuple[int, tuple[_Use, ...]]] = field(default_factory=dict)  # server id -> version, uses
    _totals: dict[str, list[int]] = field(default_factory=dict)  # host -> vcpus, memory, disk, servers
    _fleet: Fleet = field(default_factory=Fleet)
    _silent: set[str] = field(default_factory=set)  # hosts that do not answer, as the fleet has them

    def apply_host(self, host: Host) -> None:
        if host.deleted:
            self.hosts.pop(host.name, None)
            self._fleet.remove(host.name)
        else:
            self.hosts[host.name] = host
            self.watch.expect(host.name)
            self._look_at(host.name)

    def apply_group(self, group: ServerGroup) -> None:
        if group.deleted:
            self.groups.pop(group.id, None)
        else:
            self.groups[group.id] = group

    def apply_server(self, server: Server) -> None:
        known = self._uses.get(server.id)
        if known is not None and known[0] >= server.version:
            return  # also of the version that was decided on: a conductor that starts reads it once more
        self._set(server.id, server.version, uses_of(server))

    def reserve(self, server: Server, host: str) -> None:
        """Hold room for a decision that is on its way to the log."""
        assert server.flavor is not None
        self._set(server.id, server.version, (_use(host, server.flavor, local_disk=server.image_id is not None),))

    def view(self) -> list[HostView]:
        """The hosts as the next placement sees them, by name."""
        return sorted(self._now().hosts(), key=lambda host: host.name)

    def place(self, demand: Demand) -> Placement:
        """Where a new server goes."""
        return place(self._now().apart(demand.named()), demand)

    def place_on(self, host: str, demand: Demand) -> Placement:
        """Whether one host has the room; the others are not asked."""
        return place(self._now().only(host), demand)

    def host_of(self, server_id: str) -> str | None:
        known = self._uses.get(server_id)
        return known[1][0].host if known is not None and known[1] else None

    def demand(self, server: Server) -> Demand:
        """What placing this server asks for, its hints and its group included."""
        assert server.flavor is not None
        operation = server.operation
        group = self.groups.get(server.server_group or "")
        members = Counter(
            host
            for member in (group.members if group else ())
            if member != server.id and (host := self.host_of(member))
        )
        return Demand(
            flavor=server.flavor,
            local_disk=server.image_id is not None,
            availability_zone=server.pinned_availability_zone,
            forced_host=server.forced_host,
            excluded=operation.hosts_tried if operation else (),
            same_host=self._hosts_named(server, "same_host"),
            different_host=self._hosts_named(server, "different_host"),
            group_policy=group.policy if group else None,
            group_hosts=dict(members),
            group_limit=int((group.rules if group else {}).get("max_server_per_host", 1)),
        )

    def _hosts_named(self, server: Server, hint: str) -> tuple[str, ...]:
        named = server.scheduler_hints.get(hint) or ()
        ids = (named,) if isinstance(named, str) else tuple(named)
        return tuple(host for id_ in ids if (host := self.host_of(id_)))

    def _set(self, server_id: str, version: int, uses: tuple[_Use, ...]) -> None:
        before = self._uses.get(server_id, (0, ()))[1]
        if uses:
            self._uses[server_id] = (version, uses)
        else:
            self._uses.pop(server_id, None)
        if uses == before:
            return
        for use in before:
            self._add(use, -1)
        for use in uses:
            self._add(use, 1)
        for host in {use.host for use in (*before, *uses)}:
            self._look_at(host)

    def _add(self, use: _Use, sign: int) -> None:
        totals = self._totals.setdefault(use.host, [0, 0, 0, 0])
        for index, amount in enumerate((use.vcpus, use.memory_mb, use.disk_gb, 1)):
            totals[index] += sign * amount

    def _now(self) -> Fleet:
        """The fleet, with who answers right now."""
        silent = {name for name in self.watch.silent() if name in self.hosts}
        changed, self._silent = silent ^ self._silent, silent
        for name in changed:
            self._look_at(name)
        return self._fleet

    def _look_at(self, name: str) -> None:
        """Something about a host has changed."""
        host = self.hosts.get(name)
        if host is None:
            return
        vcpus, memory, disk, servers = self._totals.get(name, (0, 0, 0, 0))
        self._fleet.put(
            HostView(
                name=name,
                vcpus=host.vcpus,
                memory_mb=host.memory_mb,
                disk_gb=host.disk_gb,
                used_vcpus=vcpus,
                used_memory_mb=memory,
                used_disk_gb=disk,
                servers=servers,
                up=name not in self._silent and not host.forced_down,
                disabled=host.disabled,
                availability_zone=host.availability_zone,
            )
        )


def _use(host: str, flavor: FlavorSnapshot, *, local_disk: bool) -> _Use:
    return _Use(host, flavor.vcpus, flavor.ram, disk_of(flavor) if local_disk else flavor.ephemeral)


def uses_of(server: Server) -> tuple[_Use, ...]:
    """The room that a server takes now: on its host, and what a resize holds until it is confirmed."""
    if server.deleted or server.host is None or server.flavor is None:
        return ()
    return (_use(server.host, server.flavor, local_disk=server.image_id is not None),)
