"""Segments that guests of one network share: a Linux bridge each, which all hosts on this machine have in common.

The host has the gateway's address on the bridge, so it reaches the guests. A bridge is made when a guest
needs it and removed when nothing is plugged into it any more. Without the right to make bridges guests get QEMU's
user-mode network with the same addresses: they reach out, nobody reaches them or each other.
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterable
from pathlib import Path

from domain.orders import NicSpec
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.dhcp import Dhcp
from hypervisor_agent.libvirt.machine import can_make_bridges, program

PREFIX = "cv-"


class Networks:
    """Blocking, a few milliseconds a call."""

    def __init__(self, *, bridged: bool | None = None, dhcp: Dhcp | None = None) -> None:
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
            if self.bridged and self._dhcp is not None and (Path("/sys/class/net") / bridge).exists():
                self._dhcp.listen(bridge)

    def remove_unused(self, nics: Iterable[NicSpec]) -> None:
        """Remove the bridges of these NICs that have nothing plugged in."""
        if not self.bridged:
            return
        for nic in nics:
            bridge = bridge_name(nic.network_id)
            members = Path("/sys/class/net") / bridge / "brif"
            if members.is_dir() and not any(members.iterdir()):
                if self._dhcp is not None:
                    self._dhcp.forget(bridge)
                _ip("link", "del", bridge, fine="Cannot find device")

    def _ensure(self, nic: NicSpec) -> None:
        bridge = bridge_name(nic.network_id)
        if not (Path("/sys/class/net") / bridge).exists():
            options = ["type", "bridge", "stp_state", "0", "forward_delay", "0"]
            _ip("link", "add", bridge, "mtu", str(nic.mtu), *options, fine="File exists")
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
