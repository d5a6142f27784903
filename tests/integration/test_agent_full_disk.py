"""An agent whose disk is full keeps no promise: it says so, takes nothing, and goes on by itself when there is room."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import troubles
from domain.resources import Host
from eventlog.nats_server import EmbeddedNats
from tests.system import WAIT_SECONDS, System, context

FULL = f"{troubles.MARK}the agent's journal can not be written: database or disk is full"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Where the agents of a `System` keep what they have."""
    disk = tmp_path / "hosts"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("a small disk can be mounted only by root, where mounting is allowed")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096):
                pass
        except OSError:
            return


async def host_is(system: System, disabled: bool, reason: str | None) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            (host,) = [one for one in await system.read.resources("host") if isinstance(one, Host)]
            if (host.disabled, host.disabled_reason) == (disabled, reason):
                return
            await asyncio.sleep(0.05)


async def test_it_says_so_and_goes_on_when_there_is_room(
    small_disk: Path, own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with System.open(own_nats, tmp_path, hosts=("host-1",)) as system:
        server = await system.create()
        filler = small_disk / "filler"
        fill(filler)
        await system.commands.server("stop", server.id, {}, context())
        await host_is(system, True, FULL)
        refused = await system.create("elsewhere")
        assert refused.vm_state == "error"
        assert (await system.server(server.id)).task_state == "powering-off"
        filler.unlink()
        assert (await system.settled(server.id)).vm_state == "stopped"
        await host_is(system, False, None)
        assert (await system.create("here")).vm_state == "active"
