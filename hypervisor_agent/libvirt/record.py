"""What the driver remembers of a guest, beside its disks: how it is to be defined, and the last order done.

Written whole or not at all. The domain's metadata in libvirt carries generation and order too, for whoever looks from
outside; decisions are made from this record, which also exists before and between definitions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from domain.orders import GuestSpec, ImageSpec, PowerStateName
from hypervisor_agent.libvirt.files import HostFiles


class Rescue(msgspec.Struct, frozen=True, omit_defaults=True):
    """The guest is defined with a rescue disk: in front of its own; with `stable` beside all of them, and booted."""

    image: ImageSpec | None
    stable: bool = False


class Resize(msgspec.Struct, frozen=True):
    """The guest is being resized or waits to be confirmed; this takes it back."""

    vcpus: int
    memory_mb: int
    disk_gb: int
    was_running: bool


class GuestRecord(msgspec.Struct, omit_defaults=True):
    spec: GuestSpec
    generation: int = 0
    order_id: str = ""
    rescue: Rescue | None = None
    resize: Resize | None = None
    power_state: PowerStateName = "nostate"  # as the last order left it
    letting_go: tuple[str, ...] = ()  # ids of volumes and ports that the guest was asked to let go of, see `unplugging`


def load(path: Path) -> GuestRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=GuestRecord)
    except FileNotFoundError:
        return None


def all_of(files: HostFiles) -> Iterator[GuestRecord]:
    """The records of all guests of this host."""
    for path in files.guests.glob("*/record.json"):
        record = load(path)
        if record is not None:
            yield record


def save(path: Path, record: GuestRecord) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
