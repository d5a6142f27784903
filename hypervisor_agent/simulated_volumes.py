"""The files behind a simulated guest's volumes: those are real, made by the volume store, and nobody has them open.

Where there is no such file (a test's volume) there is nothing to be done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from domain.orders import VolumeSpec
from hypervisor_agent.driver import OrderFailed

SECONDS = 60.0


def grow(volume: VolumeSpec, size_gb: int) -> None:
    path = Path(volume.path)
    if not path.exists():
        return
    if volume.disk_format == "raw":
        os.truncate(path, size_gb << 30)
        return
    command = ["qemu-img", "resize", "-q", "-f", volume.disk_format, str(path), f"{size_gb}G"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        raise OrderFailed("disk_failed", done.stderr.strip()[-500:])


def copy(volume: VolumeSpec, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path = Path(volume.path)
    if path.exists():
        shutil.copyfile(path, target)
