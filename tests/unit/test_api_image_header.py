"""Which image headers are taken, and how large a disk they say it is."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.image.header import virtual_size
from domain.errors import Invalid


def header(version: int = 3, backing: int = 0, size: int = 7, incompatible: int = 0) -> bytes:
    head = b"QFI\xfb" + struct.pack(">IQIIQ", version, backing, 0, 16, size)
    return head.ljust(72, b"\0") + struct.pack(">Q", incompatible) + bytes(100)


def test_the_virtual_size_of_qcow2_is_in_its_header() -> None:
    assert virtual_size(header(size=1 << 40), "qcow2", 500) == 1 << 40
    assert virtual_size(header(version=2), "qcow2", 500) == 7


def test_a_raw_disk_is_as_large_as_its_data() -> None:
    assert virtual_size(bytes(512), "raw", 12345) == 12345
    assert virtual_size(bytes(512), "vmdk", 12345) is None


@pytest.mark.parametrize(
    "bad",
    [header(backing=512), header(incompatible=4), header(incompatible=5), header(version=9), header()[:60], bytes(512)],
)
def test_what_is_refused(bad: bytes) -> None:
    with pytest.raises(Invalid):
        virtual_size(bad, "qcow2", 500)


def test_a_qcow2_image_cannot_pass_as_raw() -> None:
    with pytest.raises(Invalid):
        virtual_size(header(backing=512), "raw", 500)


@given(st.binary(max_size=600), st.sampled_from(["qcow2", "raw", "iso", "vmdk"]))
def test_any_bytes_are_taken_or_refused(data: bytes, disk_format: str) -> None:
    try:
        found = virtual_size(data, disk_format, len(data))
    except Invalid:
        return
    assert found is None or found >= 0
