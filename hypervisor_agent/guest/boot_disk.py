"""The disk around the guest: MBR, a FAT16 partition with syslinux, kernel and initramfs, and an ext4 one for data.

Written as plain files by mtools, syslinux and mke2fs: no root, no loop devices, no mounts.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from hypervisor_agent.guest.initramfs import one
from hypervisor_agent.guest.packages import BuildFailed

SECTOR = 512
ALIGNMENT = 2048  # sectors
DATA_SECTORS = 12 * ALIGNMENT
KERNEL_ARGUMENTS = (
    "quiet console=tty0 console=ttyS0,115200 panic=5 mitigations=off random.trust_cpu=on tsc=reliable no_timer_check"
    " cryptomgr.notests=1 nokaslr audit=0 apparmor=0"
)
SYSLINUX_CFG = (
    f"DEFAULT tiny\nPROMPT 0\nTIMEOUT 0\nLABEL tiny\n KERNEL /vmlinuz\n INITRD /initrd\n APPEND {KERNEL_ARGUMENTS}\n"
)


def write_disk(unpacked: Path, kernel: Path, initramfs: bytes, work: Path, out: Path) -> None:
    """Write the compressed qcow2 `out`; `work` is an empty directory for the parts."""
    boot_sectors = _aligned((kernel.stat().st_size + len(initramfs)) // SECTOR + 4096)
    data_start = ALIGNMENT + boot_sectors
    (work / "initrd").write_bytes(initramfs)
    boot = _boot_partition(unpacked, kernel, work, boot_sectors)
    data = _data_partition(work)
    record = bytearray(SECTOR)
    code = one(unpacked, "SYSLINUX/mbr.bin").read_bytes()[:440]
    record[: len(code)] = code
    record[440:444] = b"CHRO"
    record[446:462] = _partition(0x80, 0x0E, ALIGNMENT, boot_sectors)
    record[462:478] = _partition(0, 0x83, data_start, DATA_SECTORS)
    record[510:] = b"\x55\xaa"
    disk = work / "disk.raw"
    with disk.open("wb") as file:
        file.write(record)
        for start, part in ((ALIGNMENT, boot), (data_start, data)):
            file.seek(start * SECTOR)
            file.write(part.read_bytes())
        file.truncate((data_start + DATA_SECTORS) * SECTOR)
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"]
    _run(unpacked, *convert, str(disk), str(out))


def _partition(flags: int, kind: int, start: int, sectors: int) -> bytes:
    return struct.pack("<B3sB3sII", flags, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, sectors)


def _aligned(sectors: int) -> int:
    return -(-sectors // ALIGNMENT) * ALIGNMENT


def _boot_partition(unpacked: Path, kernel: Path, work: Path, sectors: int) -> Path:
    fat = work / "boot.img"
    with fat.open("wb") as file:
        file.truncate(sectors * SECTOR)
    (work / "syslinux.cfg").write_text(SYSLINUX_CFG)
    geometry = ["-h", "64", "-s", "32", "-T", str(sectors), "-H", str(ALIGNMENT)]
    _run(unpacked, "mformat", "-i", str(fat), *geometry, "-v", "CHRONOVA", "::")
    for source, name in ((kernel, "vmlinuz"), (work / "initrd", "initrd"), (work / "syslinux.cfg", "syslinux.cfg")):
        _run(unpacked, "mcopy", "-i", str(fat), str(source), f"::/{name}")
    _run(unpacked, "syslinux", str(fat))
    return fat


def _data_partition(work: Path) -> Path:
    ext4, content = work / "data.img", work / "content"
    content.mkdir()
    with ext4.open("wb") as file:
        file.truncate(DATA_SECTORS * SECTOR)
    options = ["-b", "1024", "-J", "size=1", "-E", "lazy_itable_init=0,root_owner=0:0", "-L", "chronova"]
    _run(work, "mke2fs", "-q", "-t", "ext4", *options, "-d", str(content), str(ext4))
    return ext4


def _run(unpacked: Path, *command: str) -> None:
    path = f"{unpacked}/usr/bin:{unpacked}/bin:/usr/sbin:/sbin:{os.environ.get('PATH', '')}"
    program = shutil.which(command[0], path=path)
    if program is None:
        raise BuildFailed(f"{command[0]} is missing. Install qemu-utils and e2fsprogs.")
    environment = os.environ | {"PATH": path, "MTOOLS_SKIP_CHECK": "1"}
    arguments = [program, *command[1:]]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(command)}: {done.stderr.strip()}")
