"""What this machine can do: the programs it has, whether KVM really executes guests, whether bridges can be made.

/dev/kvm existing proves nothing: nested or software KVM may open it and never get a guest through its boot. So KVM is
judged by what it does: a tiny ROM counts a hundred million down and exits, which takes a fifth of a second on real
hardware virtualisation and for ever without. The answer is kept until the machine reboots.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

EMULATOR = "qemu-system-x86_64"
PROGRAMS = ("libvirtd", "virtlogd", EMULATOR, "qemu-img")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROBE_SECONDS = 2.0
PROBE_COUNT = 100_000_000
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SEARCH_PATH}")


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if program(name) is None]


@cache
def has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def can_make_bridges() -> bool:
    return os.geteuid() == 0 and has_capability(CAP_NET_ADMIN) and program("ip") is not None


def can_make_namespaces() -> bool:
    return os.geteuid() == 0 and has_capability(CAP_SYS_ADMIN) and program("unshare") is not None


def can_run_libvirtd() -> bool:
    """A private libvirtd needs a mount namespace for root; everybody else gets a session daemon.

    Root without that right (in a container, mostly) has neither: libvirtd always is the system's for root.
    """
    return not missing_programs() and (os.geteuid() != 0 or can_make_namespaces())


@cache
def kvm_works() -> bool:
    """Whether KVM executes guest code at hardware speed. Asks once per boot of the machine."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    remembered = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chronova" / "kvm"
    with suppress(OSError, ValueError):
        of_boot, answer = remembered.read_text().split()
        if of_boot == boot:
            return answer == "yes"
    works = probe("kvm")
    with suppress(OSError):  # then it is asked again next time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        fresh = remembered.with_suffix(f".{os.getpid()}")
        fresh.write_text(f"{boot} {'yes' if works else 'no'}\n")
        fresh.replace(remembered)
    return works


def probe(accelerator: str, count: int = PROBE_COUNT, seconds: float = PROBE_SECONDS) -> bool:
    """Run the counting ROM and see whether it ends in time."""
    emulator = program(EMULATOR)
    if emulator is None:
        return False
    options = ["-M", "pc", "-m", "16", "-nodefaults", "-display", "none", "-no-reboot"]
    with tempfile.NamedTemporaryFile(suffix=".rom") as file:
        file.write(_counting_rom(count))
        file.flush()
        command = [emulator, "-accel", accelerator, *options, "-bios", file.name]
        try:
            done = subprocess.run(
                [*command, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 33


def _counting_rom(count: int) -> bytes:
    """64 KiB that begin, at the reset vector, with: ecx = count; while (--ecx); out 0xf4, 0x10; halt."""
    rom = bytearray(b"\xf4" * 65536)
    code = b"\x66\xb9" + struct.pack("<I", count) + b"\x66\x49\x75\xfc\xb0\x10\xe6\xf4\xf4"
    rom[: len(code)] = code
    rom[0xFFF0:0xFFF3] = b"\xe9" + struct.pack("<H", 0x10000 - 0xFFF3)
    return bytes(rom)
