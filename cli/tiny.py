"""Which file the built-in image `tiny` is made of at a start.

With QEMU it is the guest image, built from distribution packages on first use and kept in the user's cache. The drivers
that run no guest need only something to name: a small valid qcow2 without content, replaced by the real one when the
same data directory is later started with QEMU. A start that finds the right file in place does nothing.
"""

from __future__ import annotations

import struct
from pathlib import Path

import structlog

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
PLACEHOLDER_BYTES = 5 * CLUSTER
VIRTUAL_BYTES = 33 << 20

log = structlog.get_logger("control")


def tiny_source(in_place: Path, driver: str, cache: Path) -> Path | None:
    """The file to make `tiny` from; null if what is in place is right, or if there is nothing to make it from."""
    from hypervisor_agent.driver import best_driver

    real_guests = (best_driver() if driver == "auto" else driver) == "libvirt"
    size = in_place.stat().st_size if in_place.exists() else 0
    if size > PLACEHOLDER_BYTES or (size and not real_guests):
        return None
    if not real_guests:
        return _placeholder(cache / "tiny-placeholder.qcow2")
    from hypervisor_agent.guest.build import tiny_image
    from hypervisor_agent.guest.packages import BuildFailed

    try:
        return tiny_image()
    except BuildFailed as error:
        log.error("the guest image tiny could not be built; upload an image of your own", error=str(error))
        return None


def _placeholder(path: Path) -> Path:
    """An empty qcow2 (version 3): header, refcount table, one refcount block, level 1 table."""
    level_1 = -(-VIRTUAL_BYTES // (CLUSTER * (CLUSTER // 8)))
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, VIRTUAL_BYTES, 0),
        *(level_1, 3 * CLUSTER, CLUSTER, 1, 0, 0, 0, 0, 0, 4, 104),
    )
    content = bytearray(4 * CLUSTER)
    content[: len(header)] = header
    content[CLUSTER : CLUSTER + 8] = struct.pack(">Q", 2 * CLUSTER)
    content[2 * CLUSTER : 2 * CLUSTER + 8] = struct.pack(">4H", 1, 1, 1, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
