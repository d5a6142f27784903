"""A host with a full disk: what needs room fails and says what to do, nothing is left, and with room it works again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.life import MARKS, Guest, World, living, wait_until

SIZE_GB = 6
KEPT_FREE = 3 << 20  # what a guest that only runs may write
HARDLY_ANY = 48 << 10
pytestmark = [*MARKS, pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk of its own for images and guests; the log is elsewhere."""
    folder = tmp_path_factory.mktemp("full")
    small, image = folder / "small", folder / "small.img"
    small.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE_GB << 30)  # takes no room itself: what fills it is never written
    for command in (["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(small)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no disk can be mounted here: {done.stderr}")
    try:
        (folder / "data").mkdir()
        for name in ("agents", "images"):
            (small / name).mkdir()
            (folder / "data" / name).symlink_to(small / name)
        yield small
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


@pytest.fixture(scope="module")
def cramped(disk: Path) -> Iterator[World]:
    with living(disk.with_name("data")) as world:
        yield world


@pytest.fixture(scope="module")
def guest(cramped: World) -> Guest:
    guest = cramped.create("cramped", networks="none")
    guest.settles("ACTIVE")
    guest.boots()
    return guest


@contextmanager
def full(disk: Path, free: int = KEPT_FREE) -> Iterator[None]:
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - free)
    try:
        yield
    finally:
        filler.unlink()


def newest(world: World, guest: Guest) -> dict[str, Any]:
    with world.system.client() as client:
        return dict(client.get(f"/v1/servers/{guest.id}/history").json()["actions"][0])


def why(world: World, guest: Guest) -> str:
    """The reason of the newest action's failure, as its owner can read it."""
    return str(newest(world, guest)["fault"]["message"])


def ended(guest: Guest) -> Any:
    return next(iter(guest.world.cloud.compute.server_actions(guest.id))).message


def test_a_snapshot_without_room_fails_and_leaves_nothing(cramped: World, disk: Path, guest: Guest) -> None:
    before = cramped.leftovers()
    with full(disk):
        cramped.cloud.compute.create_server_image(guest.id, "no-room")
        wait_until(lambda: ended(guest) == "Error", "the snapshot fails")
        guest.settles("ACTIVE")
        assert "full" in why(cramped, guest)
        assert guest.run("echo well") == "well"
        wait_until(lambda: cramped.left_since(before) == {}, "nothing is left")


def test_a_resize_without_room_fails_and_the_server_goes_on(cramped: World, disk: Path, guest: Guest) -> None:
    flavor = cramped.admin.compute.create_flavor(name="cramped.two", ram=128, vcpus=2, disk=2)
    guest.run("dd if=/dev/urandom of=/data/root/much bs=1M count=6; sync")
    with full(disk):
        cramped.cloud.compute.resize_server(guest.id, flavor.id)
        wait_until(lambda: ended(guest) == "Error", "the resize fails")
        guest.settles("ACTIVE")
        assert "full" in why(cramped, guest)
        assert guest.run("nproc") == "1"
    guest.do("resize_server", "VERIFY_RESIZE", flavor.id)
    assert guest.boots()["cpus"] == "2"
    guest.do("revert_server_resize", "ACTIVE")
    guest.boots()


def test_a_build_without_room_says_so_and_leaves_nothing(cramped: World, disk: Path, guest: Guest) -> None:
    guest.do("stop_server", "SHUTOFF")
    before = cramped.leftovers()
    with full(disk, free=HARDLY_ANY):
        unborn = cramped.create("unborn", networks="none")
        wait_until(lambda: "full" in str(newest(cramped, unborn)["steps"]), "a host says that its disk is full")
    # A host whose agent cannot even write its journal goes on when there is room.
    wait_until(lambda: unborn.server.status in ("ERROR", "ACTIVE"), "it is settled")
    unborn.delete()
    wait_until(lambda: cramped.left_since(before) == {}, "nothing is left")
    guest.do("start_server", "ACTIVE")
    guest.boots()
    guest.delete()
