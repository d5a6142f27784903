"""Segments that guests of one network share: a Linux bridge each, which all hosts on this machine have in common.

The host has the gateway's address on the bridge, so guests that let it in are reached from here. A bridge is made when
a guest needs it and removed when nothing is plugged into it any more; its alias says whose it is, and a starting agent
removes those of its system that a killed one left. Without the right to make bridges guests get QEMU's
user-mode network with the same addresses: they reach out, nobody reaches them or each other.
"""

from __future__ import annotations

import hashlib
import ipaddress
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from domain.orders import NicSpec
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.dhcp import Dhcp
from hypervisor_agent.libvirt.machine import can_make_bridges, program

PREFIX = "cv-"
DEVICES = Path("/sys/class/net")


class Networks:
    """Blocking, a few milliseconds a call. `owner` names the system, which all hosts of it on this machine share."""

    def __init__(self, owner: str, *, bridged: bool | None = None, dhcp: Dhcp | None = None) -> None:
        self._alias = f"chronova {hashlib.sha256(owner.encode()).hexdigest()[:16]}"
        self.bridged = can_make_bridges() if bridged is None else bridged
        self._dhcp = dhcp

    def close(self) -> None:
        if self._dhcp is not None:
            self._dhcp.close()

    def ensure(self, nics: Iterable[NicSpec]) -> None:
        if not self.bridged:
            return
        for nic in nics:
            self._ensure(nic)

    def listen(self, nics: Iterable[NicSpec]) -> None:
        """Answer on the bridges of these NICs that are there: what a starting agent does for the guests it finds."""
        for nic in nics:
            bridge = bridge_name(nic.network_id)
            if self.bridged and self._dhcp is not None and (DEVICES / bridge).exists():
                self._dhcp.listen(bridge)

    def remove_unused(self, nics: Iterable[NicSpec]) -> None:
        """Remove the bridges of these NICs that have nothing plugged in."""
        if self.bridged:
            for nic in nics:
                self._remove_unused(bridge_name(nic.network_id))

    def remove_stale(self) -> None:
        """Remove the bridges of this system that have nothing plugged in."""
        if not self.bridged:
            return
        for path in DEVICES.glob(f"{PREFIX}*"):
            with suppress(OSError):  # another host of the system removes it just now
                if (path / "ifalias").read_text().strip() == self._alias:
                    self._remove_unused(path.name)

    def _remove_unused(self, bridge: str) -> None:
        members = DEVICES / bridge / "brif"
        if members.is_dir() and not any(members.iterdir()):
            if self._dhcp is not None:
                self._dhcp.forget(bridge)
            _ip("link", "del", bridge, fine="Cannot find device")

    def _ensure(self, nic: NicSpec) -> None:
        bridge = bridge_name(nic.network_id)
        if not (DEVICES / bridge).exists():
            options = ["type", "bridge", "stp_state", "0", "forward_delay", "0"]
            _ip("link", "add", bridge, "mtu", str(nic.mtu), *options, fine="File exists")
            _ip("link", "set", bridge, "alias", self._alias)
        for address in nic.addresses:
            if address.gateway:
                network = ipaddress.ip_network(f"{address.address}/{address.prefix_length}", strict=False)
                extra = ("nodad",) if network.version == 6 else ()
                gateway = f"{address.gateway}/{network.prefixlen}"
                _ip("addr", "replace", gateway, "dev", bridge, *extra, fine="File exists")
        _ip("link", "set", bridge, "up")
        if self._dhcp is not None:
            self._dhcp.listen(bridge)


def bridge_name(network_id: str) -> str:
    return PREFIX + network_id.replace("-", "")[:8]


def _ip(*arguments: str, fine: str | None = None) -> None:
    command = [program("ip") or "ip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0 and not (fine and fine in done.stderr):
        text = done.stderr.strip()
        raise OrderFailed("network_failed", f"The guest's network could not be set up: {text}", " ".join(command))
