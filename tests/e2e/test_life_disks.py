"""What becomes of a server's disk: rescue, rebuild, images, backups, resize, shelve. Seen inside the guest."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import openstack
import pytest

from tests.life import MARKS, REACHABLE, Guest, World, wait_until

pytestmark = MARKS

NOTE = "/data/root/note"
# Says "same" when the password is root's: the guest's own mkpasswd makes the hash again with the same salt.
SAME_PASSWORD = """
kept=$(grep ^root: /data/etc/shadow | cut -d: -f2)
[ "$(echo '%s' | mkpasswd -m sha512 -P 0 -S "$(echo "$kept" | cut -d'$' -f3)")" = "$kept" ] && echo same
"""


@pytest.fixture(scope="module")
def guest(world: World) -> Iterator[Guest]:
    before = world.leftovers()
    key = world.cloud.compute.create_keypair(name="life")
    guest = world.create(
        "disks",
        key_name="life",
        user_data=base64.b64encode(b"#!/bin/sh\necho user data ran\n").decode(),
        metadata={"role": "db"},
        config_drive=True,
        admin_password="Sesame-1",
    )
    guest.settles("ACTIVE")
    yield guest
    guest.delete()
    world.cloud.compute.delete_keypair(key)
    assert world.left_since(before) == {}


@pytest.fixture(scope="module")
def big(world: World) -> Iterator[Any]:
    flavor = world.admin.compute.create_flavor(name="life.big", ram=160, vcpus=2, disk=2)
    yield flavor
    world.admin.compute.delete_flavor(flavor)


@pytest.fixture(scope="module")
def image(world: World, guest: Guest) -> Iterator[Any]:
    """A snapshot of the guest while it ran, with a note on its disk."""
    guest.run(f"echo first > {NOTE}; sync")
    made = world.cloud.compute.create_server_image(guest.id, "life-snapshot", metadata={"why": "test"})
    yield wait_until(lambda: active(world, made.id), "the image is active")
    world.cloud.image.delete_image(made.id)


def active(world: World, image_id: str) -> Any:
    image = world.cloud.image.get_image(image_id)
    assert image.status in ("queued", "saving", "active")
    return image if image.status == "active" else None


def test_key_user_data_metadata_and_password_reach_the_guest(world: World, guest: Guest) -> None:
    said = guest.boots()
    assert said["host"] == "disks"
    guest.says("user data ran")
    guest.says("CHRONOVA-USERDATA exit=0")
    public_key = world.cloud.compute.get_keypair("life").public_key
    assert guest.run("cat /data/root/.ssh/authorized_keys") == public_key.strip()
    assert '"role": "db"' in guest.run("cat /run/config/openstack/latest/meta_data.json").replace('":"', '": "')
    assert guest.run(SAME_PASSWORD % "Sesame-1") == "same"


def test_a_password_is_changed_through_the_guest_agent(world: World, guest: Guest) -> None:
    world.cloud.compute.change_server_password(guest.id, "Sesame-2")
    guest.settles("ACTIVE")
    assert guest.run(SAME_PASSWORD % "Sesame-2") == "same"


def test_a_snapshot_is_whole_and_names_its_source(world: World, guest: Guest, image: Any) -> None:
    assert (image.instance_uuid, image.properties["image_type"]) == (guest.id, "snapshot")
    assert image.properties["why"] == "test"
    world.cloud.image.download_image(image)  # compares the checksum
    assert guest.settles("ACTIVE").vm_state == "active"


def test_rescue_boots_another_disk_with_the_own_one_second(world: World, guest: Guest) -> None:
    world.cloud.compute.rescue_server(guest.id, admin_pass="Rescue-1")
    assert guest.settles("RESCUE").vm_state == "rescued"
    said = guest.boots()
    assert (said["boots"], "vdb" in said) == ("1", True)
    assert guest.run(SAME_PASSWORD % "Rescue-1") == "same"
    repaired = f"mkdir /run/own; mount -t ext4 /dev/vdb2 /run/own; cd /run/own/root; echo repaired > {NOTE[-4:]}"
    guest.run(f"{repaired}; cd /; umount /run/own; sync")
    guest.do("unrescue_server", "ACTIVE")
    said = guest.boots()
    assert (said["boots"], "vdb" in said) == ("2", False)
    assert guest.run(f"cat {NOTE}") == "repaired"


def test_a_disk_that_does_not_boot_is_repaired_from_a_rescue_image(world: World, guest: Guest, image: Any) -> None:
    guest.run("dd if=/dev/zero of=/dev/vda bs=440 count=1 conv=notrunc; sync")
    guest.domain.destroy()
    guest.settles("SHUTOFF")
    world.cloud.compute.rescue_server(guest.id, image_ref=image.id)
    guest.settles("RESCUE")
    guest.boots()
    assert guest.run(f"cat {NOTE}") == "first"  # the rescue image is the snapshot
    assert guest.run("head -c 440 /dev/vdb | tr -d '\\0' | wc -c") == "0"
    guest.run("dd if=/dev/vda of=/dev/vdb bs=440 count=1 conv=notrunc; sync")
    guest.do("unrescue_server", "ACTIVE")
    guest.boots()
    assert guest.run(f"cat {NOTE}") == "repaired"


def test_rebuild_from_a_snapshot_and_from_an_image(world: World, guest: Guest, image: Any) -> None:
    address = guest.address
    world.cloud.compute.rebuild_server(guest.id, image=image.id, name="rebuilt")
    guest.settles("ACTIVE")
    guest.boots()
    assert guest.run(f"cat {NOTE}") == "first"
    assert (guest.server.name, guest.address) == ("rebuilt", address)
    world.cloud.compute.rebuild_server(guest.id, image=world.image_id, name="disks")
    guest.settles("ACTIVE")
    assert guest.boots()["boots"] == "1"
    assert guest.run(f"ls {NOTE} || echo gone") == "gone"
    assert guest.answers() == REACHABLE


def test_a_new_server_boots_from_the_snapshot(world: World, image: Any) -> None:
    other = world.create("from-snapshot", image_id=image.id)
    other.settles("ACTIVE")
    assert other.boots()["host"] == "from-snapshot"
    assert other.run(f"cat {NOTE}") == "first"
    other.delete()


def test_backups_rotate(world: World, guest: Guest) -> None:
    for name in ("backup-1", "backup-2"):
        world.cloud.compute.backup_server(guest.id, name, "daily", 1)
        guest.settles("ACTIVE")
    left = [one for one in world.cloud.image.images() if one.name.startswith("backup")]
    assert [(one.name, one.status) for one in left] == [("backup-2", "active")]
    world.cloud.image.delete_image(left[0])


def test_resize_is_seen_inside_and_reverted(world: World, guest: Guest, big: Any) -> None:
    guest.run(f"echo small > {NOTE}; sync")
    with pytest.raises(openstack.exceptions.BadRequestException):
        world.cloud.compute.resize_server(guest.id, guest.server.flavor.id or "42")
    guest.do("resize_server", "VERIFY_RESIZE", big.id)
    said = guest.boots()
    assert (said["cpus"], said["vda"]) == ("2", "2048M")
    assert int(said["mem"].removesuffix("kB")) > 100_000
    assert guest.run(f"cat {NOTE}") == "small"
    guest.do("revert_server_resize", "ACTIVE")
    said = guest.boots()
    assert (said["cpus"], said["vda"]) == ("1", "1024M")
    assert guest.server.flavor.original_name == "m1.nano"


def test_resize_is_confirmed(guest: Guest, big: Any) -> None:
    guest.do("resize_server", "VERIFY_RESIZE", big.id)
    assert guest.boots()["cpus"] == "2"
    guest.do("confirm_server_resize", "ACTIVE")
    assert guest.server.flavor.original_name == "life.big"
    assert guest.run(f"nproc; cat {NOTE}") == "2\nsmall"


def test_a_shelved_server_leaves_its_host_and_comes_back_whole(world: World, guest: Guest) -> None:
    address = guest.address
    guest.do("shelve_server", "SHELVED_OFFLOADED")
    assert guest.id not in world.domains()
    assert world.leftovers()["used"] == []
    guest.do("unshelve_server", "ACTIVE")
    said = guest.boots()
    assert (said["cpus"], said["ip"]) == ("2", address)
    assert guest.run(f"cat {NOTE}") == "small"


def test_a_crash_dump_makes_the_guest_panic(world: World, guest: Guest) -> None:
    guest.run("echo remember-the-$((6*7)) > /run/remembered")
    world.cloud.compute.trigger_server_crash_dump(guest.id)
    guest.says("Kernel panic")
    dump = world.data / "agents" / guest.host / "guests" / guest.id / "crash.dump"
    wait_until(dump.exists, "the dump is whole")
    assert dump.read_bytes()[:4] == b"\x7fELF"
    assert b"remember-the-42" in dump.read_bytes()
    guest.do("reboot_server", "ACTIVE", "HARD")
    guest.boots()


def test_the_history_tells_all_of_it(guest: Guest) -> None:
    expected = ["create", "changePassword", "createImage", "rescue", "unrescue"]
    expected += ["stop", "rescue", "unrescue", "rebuild", "rebuild"]
    expected += ["createBackup"] * 2 + ["resize", "revertResize", "resize", "confirmResize", "shelve", "unshelve"]
    assert guest.history() == [(action, None) for action in [*expected, "trigger_crash_dump", "reboot"]]
