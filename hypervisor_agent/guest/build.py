"""Build the tiny guest image: `python -m hypervisor_agent.guest.build OUT.qcow2 [--label TEXT]`.

BIOS -> syslinux -> the distribution's cloud kernel -> busybox. What it does is in `init.sh`; what it prints on the
serial console (ttyS0) is a contract for tests and demos:

- `CHRONOVA-READY uuid=.. boots=N cpus=N mem=NkB host=.. ip=a,b disks: vda=1024M nics: eth0=<mac> image=<label>`
- `CHRONOVA-HOTPLUG add|remove|resize disk|nic NAME ...`, `CHRONOVA-DHCP NIC ADDRESS`, `CHRONOVA-USERDATA exit=N`
- `CHRONOVA-POWEROFF`, `CHRONOVA-REBOOT`

From a config drive it takes hostname, addresses (network_data.json), the ssh keys (kept in
/data/root/.ssh/authorized_keys), admin_pass, and user data that begins with `#!`, which root runs at the first boot.
Log in on the serial console as root with the password `chronova`. /data is on the disk and survives reboots;
the rest is memory. The guest agent answers, the power button ends in a clean power-off.

Needs apt, dpkg-deb, ldd, mke2fs and qemu-img; no root. `tiny_image` builds once per version of everything that went in
and keeps the result in a cache directory; builders that meet wait for each other at a lock.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypervisor_agent.guest import boot_disk, initramfs, packages
from hypervisor_agent.guest.packages import BuildFailed, Package

PASSWORD = "chronova"
LABEL = "tiny-1"


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chronova"


def tiny_image(folder: Path | None = None, *, label: str = LABEL) -> Path:
    """The image, built if it is not there yet (about ten seconds), read-only. Raises `BuildFailed`.

    Without package lists the newest image that was built before is used.
    """
    folder = folder or cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        parts = packages.find_packages()
    except BuildFailed:
        built = sorted(folder.glob(f"{label}-*.qcow2"), key=lambda path: path.stat().st_mtime)
        if built:
            return built[-1]
        raise
    image = folder / f"{label}-{_fingerprint(parts)}.qcow2"
    if not image.exists():
        with _lock(folder):
            if not image.exists():
                build(image, parts, label)
    return image


def build(out: Path, parts: list[Package], label: str) -> None:
    """Write `out`, whole or not at all."""
    cache = cache_folder() / "packages"
    with tempfile.TemporaryDirectory(prefix="chronova-image-") as folder:
        work = Path(folder)
        with _lock(cache_folder()):
            packages.fetch(parts, cache)
        unpacked = work / "unpacked"
        packages.unpack(parts, cache, unpacked)
        archive = initramfs.build_initramfs(unpacked, label, PASSWORD)
        (work / "parts").mkdir()
        fresh = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            boot_disk.write_disk(unpacked, initramfs.kernel(unpacked), archive, work / "parts", fresh)
            fresh.chmod(0o444)
            fresh.replace(out)
        finally:
            fresh.unlink(missing_ok=True)


def _fingerprint(parts: list[Package]) -> str:
    digest = hashlib.sha256("\n".join(part.file for part in parts).encode())
    for source in sorted(Path(__file__).parent.iterdir()):
        if source.is_file():
            digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the tiny guest image.")
    parser.add_argument("out", type=Path, metavar="OUT.qcow2")
    parser.add_argument("--label", default=LABEL, help="what the guest calls its image in CHRONOVA-READY")
    arguments = parser.parse_args()
    try:
        build(arguments.out.absolute(), packages.find_packages(), arguments.label)
    except BuildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: {arguments.out.stat().st_size >> 10} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
