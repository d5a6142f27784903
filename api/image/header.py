"""What the first bytes of an image say, and which images are refused because of it.

A qcow2 image may name another file of the host as its backing file or data file. Whoever boots such an image would read
that file, so both are refused, whatever disk format the image claims to have.
"""

from __future__ import annotations

import struct
from pathlib import Path

from domain.errors import Invalid

HEADER_BYTES = 512
QCOW2 = b"QFI\xfb"
_EXTERNAL_DATA_FILE = 1 << 2


def virtual_size(header: bytes, disk_format: str, size: int) -> int | None:
    """Bytes that a guest sees, as far as the header tells. Raises 400 for an image that must not be used."""
    if header[:4] != QCOW2:
        if disk_format == "qcow2":
            raise Invalid("The data is not a qcow2 image", hint="Convert it, or set disk_format to what it is")
        return size if disk_format in ("raw", "iso", "ami", "aki", "ari") else None
    if disk_format != "qcow2":
        raise Invalid(f"The data is a qcow2 image, not {disk_format}", hint="Set disk_format to qcow2")
    if len(header) < 72:
        raise Invalid("The qcow2 image is cut off", hint="Upload all of it")
    version, backing_offset = struct.unpack(">IQ", header[4:16])
    if version not in (2, 3):
        raise Invalid(f"qcow2 version {version} cannot be read", hint="Convert it with qemu-img convert -O qcow2")
    if backing_offset:
        raise Invalid("The qcow2 image has a backing file", hint="Flatten it with qemu-img convert -O qcow2")
    if version == 3 and len(header) >= 80 and struct.unpack(">Q", header[72:80])[0] & _EXTERNAL_DATA_FILE:
        raise Invalid("The qcow2 image keeps its data in another file", hint="Flatten it with qemu-img convert")
    return int(struct.unpack(">Q", header[24:32])[0])


def virtual_size_of(path: Path, disk_format: str) -> int | None:
    """The same for a file."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    return virtual_size(header, disk_format, path.stat().st_size)
