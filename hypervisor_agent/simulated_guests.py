"""What a simulated host remembers: its guests, and the small file from which a restarted agent knows them again.

One JSON line per change, the guest's whole state; the last line of a server wins, a line without a guest forgets it.
Lines are written without fsync (they survive a killed agent, not a machine that lost power), a torn last line is
ignored, and the file is written anew when it holds far more lines than guests.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from domain.orders import NicSpec, PowerStateName, VolumeSpec

COMPACT_ABOVE = 20_000  # lines beyond four per guest
TOMBSTONES = 50_000  # gone servers whose generation is remembered
CONSOLE_LINES = 200


class Hardware(msgspec.Struct, frozen=True):
    """What a flavor gives."""

    vcpus: int
    memory_mb: int
    disk_gb: int


class SimulatedGuest(msgspec.Struct, kw_only=True, omit_defaults=True):
    server_id: str
    instance_name: str
    name: str
    hardware: Hardware
    power_state: PowerStateName = "nostate"
    defined: bool = False  # false while only its disk exists
    generation: int = 0
    order_id: str = ""
    image_id: str | None = None
    config_drive: bool = False
    nics: dict[str, NicSpec] = {}
    volumes: dict[str, VolumeSpec] = {}
    rescued_from: PowerStateName | None = None
    resized_from: Hardware | None = None
    password_user: str | None = None
    boots: int = 0
    console: list[str] = []

    def boot(self) -> None:
        self.power_state = "running"
        self.boots += 1
        mode = " rescue" if self.rescued_from else ""
        self.say(f"CHRONOVA-READY uuid={self.server_id} boots={self.boots} cpus={self.hardware.vcpus}{mode}")

    def say(self, line: str) -> None:
        self.console.append(line)
        del self.console[:-CONSOLE_LINES]


class _Line(msgspec.Struct, omit_defaults=True):
    server_id: str
    generation: int
    guest: SimulatedGuest | None = None


class GuestStore:
    """The guests of one simulated host by server id. With a path they outlive the process."""

    def __init__(self, path: Path | None) -> None:
        self.guests: dict[str, SimulatedGuest] = {}
        self._gone: dict[str, int] = {}
        self._path = path
        self._file: BinaryIO | None = None
        self._lines = 0
        self._encoder = msgspec.json.Encoder()

    def open(self) -> None:
        if self._path is None:
            return
        if self._path.exists():
            decoder = msgspec.json.Decoder(_Line)
            for line in self._path.read_bytes().split(b"\n")[:-1]:
                self._apply(decoder.decode(line))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def keep(self, guest: SimulatedGuest) -> None:
        self._append(_Line(guest.server_id, guest.generation, guest))

    def forget(self, server_id: str, generation: int) -> None:
        self._append(_Line(server_id, generation))

    def generation(self, server_id: str) -> int | None:
        guest = self.guests.get(server_id)
        return guest.generation if guest is not None else self._gone.get(server_id)

    def _append(self, line: _Line) -> None:
        self._apply(line)
        if self._file is not None:
            self._file.write(self._encoder.encode(line) + b"\n")
            self._lines += 1
            if self._lines > 4 * len(self.guests) + COMPACT_ABOVE:
                self._rewrite()

    def _apply(self, line: _Line) -> None:
        if line.guest is not None:
            self.guests[line.server_id] = line.guest
            self._gone.pop(line.server_id, None)
            return
        self.guests.pop(line.server_id, None)
        self._gone[line.server_id] = line.generation
        if len(self._gone) > TOMBSTONES:
            del self._gone[next(iter(self._gone))]

    def _rewrite(self) -> None:
        assert self._path is not None
        self.close()
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            for server_id, generation in self._gone.items():
                file.write(self._encoder.encode(_Line(server_id, generation)) + b"\n")
            for guest in self.guests.values():
                file.write(self._encoder.encode(_Line(guest.server_id, guest.generation, guest)) + b"\n")
        fresh.replace(self._path)
        self._lines = len(self.guests)
        self._file = self._path.open("ab", buffering=0)
