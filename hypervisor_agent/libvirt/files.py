"""Where things are: a host's directory, and in it one directory per guest.

Unix sockets have short names only (108 bytes), so they live in a run directory of their own outside the data
directory: /run/chronova-<hash> for root, else a private directory under /tmp. Nothing in it outlives its daemons.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOCKETS = ("serial", "vnc", "agent")


@dataclass(frozen=True)
class GuestFiles:
    folder: Path
    serial_socket: Path
    screen_socket: Path
    agent_socket: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def config_drive(self) -> Path:
        return self.folder / "config.iso"

    @property
    def console_log(self) -> Path:
        return self.folder / "console.log"

    @property
    def rescue_disk(self) -> Path:
        return self.folder / "disk.rescue"

    @property
    def resize_backup(self) -> Path:
        """The root disk as it was before a resize: there, whole, until the resize is confirmed or reverted."""
        return self.folder / "disk.before-resize"

    @property
    def crash_dump(self) -> Path:
        """The guest's memory when a crash dump was last asked for; goes with the guest."""
        return self.folder / "crash.dump"

    @property
    def frozen(self) -> Path:
        """There from before the guest's file systems are frozen until they are thawed; see `freezing`."""
        return self.folder / "frozen"

    @property
    def record(self) -> Path:
        return self.folder / "record.json"


@dataclass(frozen=True)
class HostFiles:
    data: Path

    @property
    def guests(self) -> Path:
        return self.data / "guests"

    @property
    def images(self) -> Path:
        return self.data / "images"

    @property
    def daemon(self) -> Path:
        """State, configuration, caches and logs of this host's libvirtd."""
        return self.data / "libvirt"

    @property
    def guest_logs(self) -> tuple[Path, Path]:
        """Where libvirt writes QEMU's own messages, as system and as session daemon."""
        return self.daemon / "log" / "qemu", self.daemon / "cache" / "libvirt" / "qemu" / "log"

    @property
    def run(self) -> Path:
        digest = hashlib.sha256(str(self.data.absolute()).encode()).hexdigest()[:10]
        if os.geteuid() == 0:
            return Path("/run") / f"chronova-{digest}"
        return Path(tempfile.gettempdir()) / f"chronova-{os.geteuid()}-{digest}"

    def guest(self, server_id: str) -> GuestFiles:
        sockets = (self.run / kind / server_id for kind in SOCKETS)
        return GuestFiles(self.guests / server_id, *sockets)
