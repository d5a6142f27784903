"""Starts and stops: with work in hand, on old data, without the read models, beside another start, without a disk."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import rundir
from tests.faults import proof
from tests.faults.deployment import Deployment, running, spawn
from tests.faults.scenarios import Scene, scene

STOP_SECONDS = 45.0
REFUSE_SECONDS = 120.0
pytestmark = pytest.mark.xdist_group("faults-starts")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with running(tmp_path_factory.mktemp("starts")) as started:
        yield started


async def shown(here: Scene) -> list[dict[str, Any]]:
    """What a user sees of the fleet, and of the history of each server."""
    servers = (await here.user.get("/v1/servers"))["servers"]
    return [one | {"actions": (await here.user.get(f"/v1/servers/{one['id']}/history"))["actions"]} for one in servers]


async def test_sigterm_with_work_in_hand_ends_soon_and_the_next_start_goes_on(deployment: Deployment) -> None:
    pids = deployment.note["pids"]
    async with scene(deployment) as here:
        (server_id,) = await here.new("slow-power-off")
        await here.user.create("slow-spawn")
        await here.user.give("stop", server_id)
        await here.watch.until(lambda: here.watch.began(server_id, "power_off"), "work is in hand")
    begun = time.monotonic()
    assert deployment.stop() == 0
    assert time.monotonic() - begun < STOP_SECONDS
    assert not [role for role, pid in pids.items() if rundir.started_at(pid)]
    deployment.start()
    async with scene(deployment) as here:
        await here.watch.settled(here.watch.servers)
        proof.assert_each_action_was_done_once(here.watch)
        states = {server.name: server.vm_state for server in here.watch.servers.values()}
        assert states == {"slow-power-off": "stopped", "slow-spawn": "active"}


async def test_a_start_without_the_read_models_builds_them_from_the_log(deployment: Deployment) -> None:
    async with scene(deployment) as here:
        before = await shown(here)
    assert deployment.stop() == 0
    for file in deployment.data.glob("read-models.db*"):
        file.unlink()
    deployment.start()
    async with scene(deployment) as here:
        assert await shown(here) == before
        (server_id,) = await here.new("after")
        await here.do("stop", server_id)
        await here.delete_all()
    proof.assert_log_and_read_models_hold(deployment)


def test_a_second_start_on_the_same_data_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    said = refused(deployment.data, tmp_path)
    pid = deployment.note["pids"]["supervisor"]
    assert f"chronova already runs on {deployment.data} (pid {pid}): stop it first" in said


def test_a_data_directory_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    data = tmp_path / "file" / "data"
    assert f"the data directory {data} can not be used: Not a directory" in refused(data, tmp_path)


def test_a_full_disk_is_told_at_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("a small disk can be mounted only by root, where mounting is allowed")
    try:
        said = refused(disk / "data", tmp_path)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert f"the disk of {disk / 'data'} has 0 MB free and chronova needs 32: make room" in said


def refused(data: Path, directory: Path) -> str:
    """A start that ends by itself, with one line; the line."""
    output = directory / "refused.log"
    process = spawn(data, output, "--listen", "127.0.0.1:0")
    try:
        assert process.wait(REFUSE_SECONDS) == 1
    finally:
        process.kill()
        process.wait()
    said = output.read_text()
    assert said.count("\n") == 1, said
    return said
