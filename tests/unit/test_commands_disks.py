"""Copies of disks by qemu-img say how far they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commands import disks


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="disks are copied by qemu-img, which is not installed")
async def test_a_copy_tells_how_far_it_is(tmp_path: Path) -> None:
    source, told = tmp_path / "source", list[float]()
    source.write_bytes(b"data" * (4 << 20))
    await disks.copy(source, "raw", tmp_path / "copy", 1, told.append)
    assert told == sorted(told)
    assert told[-1] == 100.0
    assert [path.name for path in tmp_path.iterdir() if path.name != "source"] == ["copy"]
