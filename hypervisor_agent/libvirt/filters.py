"""Port filters on this host's bridges: nftables tables of its own, made from the last order and kept as they should be.

The order is kept in a file before it is applied, so a starting agent applies it without being told again. Tables that
somebody changed or flushed are seen by `check` and made anew. Without nftables, br_netfilter or the right to use them
there are no filters: `possible` says so, and the host then does not claim to filter.

Names are derived from the host's directory: hosts that share a machine, of one system or of several, do not meet.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from domain.filters import HostFilters
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.files import HostFiles
from hypervisor_agent.libvirt.machine import can_make_bridges, program
from hypervisor_agent.libvirt.nft_rules import ruleset

SYSCTLS = Path("/proc/sys/net/bridge")
CALLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
NFT_SECONDS = 30.0


class PortFilters:
    """Blocking, some milliseconds a call. One caller at a time."""

    def __init__(self, files: HostFiles) -> None:
        digest = hashlib.sha256(str(files.data.absolute()).encode()).hexdigest()
        self.taps = f"cv{digest[:5]}-"
        self.table = f"chronova-{digest[:10]}"
        self._path = files.data / "filters.json"
        self._known = _load(self._path)
        self._listing: str | None = None  # as it was left; null until it was applied

    def open(self) -> None:
        """Apply what was ordered before."""
        if self._known is not None:
            self._apply(self._known)

    def order(self, filters: HostFilters) -> None:
        """Apply an order unless a newer one is known. Raises `OrderFailed`; what was there then stays.

        Position 0 greets a host that began anew: it keeps its filters, and the next order counts whatever its position,
        for the log may have been restored from a copy that ends earlier.
        """
        if self._known is not None and filters.position == 0:
            self._known = msgspec.structs.replace(self._known, position=0)
            return
        if self._known is not None and filters.position < self._known.position:
            return
        self._apply(filters)
        self._known = filters
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(filters))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    def check(self) -> bool:
        """Make the tables anew when they are not as they were left. Whether they were."""
        if self._known is None or self._listed() == self._listing:
            return True
        self._apply(self._known)
        return False

    def remove(self) -> None:
        """Take the tables away: for a host without guests."""
        for family in ("inet", "bridge"):
            _nft("-f", "-", text=f"table {family} {self.table}\ndelete table {family} {self.table}\n")

    def _apply(self, filters: HostFilters) -> None:
        _show_bridged_packets()
        try:
            text = ruleset(self.table, self.taps, filters)
        except ValueError as error:
            raise OrderFailed("filter_failed", "The order for the port filters can not be read.", str(error)) from error
        _nft("-f", "-", text=text)
        self._listing = self._listed()

    def _listed(self) -> str:
        """The tables as the kernel has them; empty for one that is missing."""
        with suppress(OrderFailed):
            return "".join(_nft("-s", "list", "table", family, self.table) for family in ("inet", "bridge"))
        return ""


@cache
def possible() -> bool:
    """Whether this machine can filter: nftables in both families, and bridged packets shown to connection tracking."""
    if not can_make_bridges() or program("nft") is None:
        return False
    try:
        _show_bridged_packets()
        _nft("--check", "-f", "-", text=ruleset("chronova-probe", "cv-", HostFilters("probe", 0)))
    except OrderFailed:
        return False
    return True


def _show_bridged_packets() -> None:
    """Have br_netfilter in this network namespace, for both families."""
    modprobe = program("modprobe")
    if not SYSCTLS.exists() and modprobe is not None:
        subprocess.run([modprobe, "br_netfilter"], capture_output=True, timeout=NFT_SECONDS, check=False)
    for name in CALLS:
        try:
            if (SYSCTLS / name).read_text().strip() != "1":
                (SYSCTLS / name).write_text("1")
        except OSError as error:
            message = "Bridged packets can not be tracked here: there is no br_netfilter. Load that kernel module."
            raise OrderFailed("filter_failed", message, str(error)) from error


def _load(path: Path) -> HostFilters | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=HostFilters)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None  # the control plane sends it again


def _nft(*arguments: str, text: str | None = None) -> str:
    command = [program("nft") or "nft", *arguments]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=NFT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OrderFailed(
            "filter_failed", "nft could not be run. Is the package nftables there?", str(error)
        ) from error
    if done.returncode != 0:
        raise OrderFailed("filter_failed", "nftables refused the port filters.", done.stderr[-2000:])
    return done.stdout
