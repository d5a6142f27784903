"""The images that this host's disks are built on: kept as long as a guest needs them, whatever the image store does.

A disk is an overlay on its image, so the image's file must stay when its user deletes the image. Where the store is on
the same file system keeping is a hard link and costs nothing; elsewhere it is one copy per host.
"""

from __future__ import annotations

import os
from pathlib import Path

from domain.orders import ImageSpec
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt import record as records
from hypervisor_agent.libvirt.copying import Tell, copy_file
from hypervisor_agent.libvirt.files import HostFiles


def keep(files: HostFiles, image: ImageSpec, tell: Tell) -> Path:
    """The image's file on this host. Raises `OrderFailed` (image_missing) when neither host nor store has it.

    `tell` is told, in this thread, how far a copy is. Blocking, as `remove_unused` is; until a guest's record names the
    image, nobody may call that one.
    """
    kept = files.images / _name(image)
    if kept.exists():
        return kept
    files.images.mkdir(parents=True, exist_ok=True)
    source, fresh = Path(image.path), kept.with_name(f".{kept.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        try:
            os.link(source, fresh, follow_symlinks=True)
        except FileNotFoundError:
            raise
        except OSError:
            copy_file(source, fresh, tell)
            fresh.chmod(0o444)
    except FileNotFoundError as error:
        raise OrderFailed(
            "image_missing",
            f"Image {image.id} is not at {image.path} on this host. Upload it again, or use another image.",
        ) from error
    fresh.replace(kept)
    return kept


def remove_unused(files: HostFiles) -> None:
    """Let go of images that no guest of this host is built on any more."""
    if not files.images.exists():
        return
    needed = set()
    for path in files.guests.glob("*/record.json"):
        record = records.load(path)
        if record is not None:
            rescue = record.rescue.image if record.rescue else None
            needed |= {_name(image) for image in (record.spec.image, rescue) if image}
    for kept in files.images.iterdir():
        if kept.name not in needed and not kept.name.startswith("."):
            kept.unlink(missing_ok=True)


def _name(image: ImageSpec) -> str:
    return "-".join(filter(None, (image.id.replace("/", "_"), image.checksum[:12])))
