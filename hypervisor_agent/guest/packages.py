"""The distribution packages that the guest image is made of: downloaded by apt (which verifies them), unpacked, never
installed. A package is kept in the cache directory under its own file name, which holds its version.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

PARTS = ("busybox-static", "qemu-guest-agent", "syslinux", "mtools")
KERNELS = ("linux-image-cloud-amd64", "linux-image-virtual")  # Debian's, Ubuntu's
_IMAGE_PACKAGE = re.compile(r"Depends: (linux-image-\d\S*)")


class BuildFailed(Exception):
    """The image cannot be built here; the message says what to do."""


@dataclass(frozen=True)
class Package:
    name: str
    file: str  # as apt names it, with the version


def find_packages() -> list[Package]:
    """What to take, at the versions that apt knows now. Needs apt's package lists, not the network."""
    names = [*_kernel_packages(), *PARTS]
    lines = _run(["apt-get", "download", "--print-uris", *names]).splitlines()
    files = [line.split()[1] for line in lines if line.startswith("'")]
    if len(files) != len(names):
        raise BuildFailed(f"apt does not know all of {', '.join(names)}. Run `apt-get update` and try again.")
    return [Package(file.split("_", 1)[0], file) for file in files]


def fetch(packages: list[Package], cache: Path) -> None:
    """Download what the cache does not hold yet."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [package.name for package in packages if not (cache / package.file).exists()]
    if missing:
        options = ["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=5"]
        _run(["apt-get", "-qq", *options, "download", *missing], cwd=cache)
    for package in packages:
        if not (cache / package.file).exists():
            raise BuildFailed(f"apt did not deliver {package.file}. Run `apt-get update` and try again.")


def unpack(packages: list[Package], cache: Path, into: Path) -> None:
    for package in packages:
        _run(["dpkg-deb", "-x", str(cache / package.file), str(into)])


def _kernel_packages() -> list[str]:
    for meta in KERNELS:
        try:
            found = _IMAGE_PACKAGE.search(_run(["apt-cache", "depends", meta]))
        except BuildFailed:
            continue
        if found:
            image = found.group(1)
            if meta == "linux-image-virtual":  # Ubuntu keeps the modules in a package of their own
                return [image, image.replace("linux-image-", "linux-modules-")]
            return [image]
    raise BuildFailed(f"apt knows none of {', '.join(KERNELS)}. Run `apt-get update` on Debian or Ubuntu (amd64).")


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    except FileNotFoundError as error:
        raise BuildFailed(f"{command[0]} is missing; the image is built on Debian or Ubuntu only.") from error
    if done.returncode != 0:
        raise BuildFailed(f"`{' '.join(command)}` failed. Run `apt-get update` and try again. {done.stderr.strip()}")
    return done.stdout
