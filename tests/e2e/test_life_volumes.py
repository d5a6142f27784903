"""Servers whose disks are volumes, on real guests: booted from, in every operation, swapped, extended, imaged, full."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openstack
import pytest

from hypervisor_agent.libvirt.machine import can_make_namespaces
from tests.life import MARKS, Guest, World, wait_until

pytestmark = MARKS
NOTE = "/data/root/note"
BadRequest = openstack.exceptions.BadRequestException
Conflict = openstack.exceptions.ConflictException


@pytest.fixture(scope="module")
def before(world: World) -> Iterator[dict[str, list[str]]]:
    """What there was; nothing more may be there at the end."""
    found = world.leftovers()
    yield found
    assert world.left_since(found) == {}


@pytest.fixture(scope="module")
def guest(world: World, before: dict[str, list[str]]) -> Iterator[Guest]:
    """Made as a user does: `openstack server create --boot-from-volume`. Its volume goes with it."""
    words = ["server", "create", "--image", "tiny", "--boot-from-volume", "1", "--flavor", "m1.nano", "--network"]
    words += ["private", "--delete-on-termination", "--wait", "-f", "json", "from-volume"]
    made = json.loads(world.client("--os-compute-api-version", "2.93", *words))
    guest = Guest(world, made["id"])
    yield guest
    root = root_of(guest)
    guest.delete()
    gone(world, root)


def root_of(guest: Guest) -> str:
    return str(guest.server.attached_volumes[0].id)


def gone(world: World, volume_id: str) -> None:
    world.cloud.block_storage.wait_for_delete(
        openstack.block_storage.v3.volume.Volume(id=volume_id), interval=0.2, wait=120
    )


def has(world: World, volume_id: str, status: str) -> Any:
    def there() -> Any:
        found = world.cloud.block_storage.get_volume(volume_id)
        assert not found.status.startswith("error"), found
        return found if found.status == status else None

    return wait_until(there, f"the volume is {status}")


def made(world: World, **fields: Any) -> Any:
    return has(world, world.cloud.block_storage.create_volume(**{"size": 1, **fields}).id, "available")


def attached(world: World, guest: Guest, volume: Any, **fields: Any) -> Any:
    world.cloud.compute.create_volume_attachment(guest.id, volume_id=volume.id, **fields)
    return has(world, volume.id, "in-use")


def drop(world: World, *volumes: Any) -> None:
    for volume in volumes:
        world.cloud.block_storage.delete_volume(volume)
    for volume in volumes:
        gone(world, volume.id)


def act(world: World, guest: Guest, body: dict[str, Any], version: str = "2.96") -> Any:
    """An action at a microversion of one's own choice."""
    answer = world.cloud.compute.post(f"/servers/{guest.id}/action", json=body, microversion=version)
    openstack.exceptions.raise_from_response(answer)
    return answer


def test_a_server_boots_from_a_volume(world: World, guest: Guest) -> None:
    said = guest.boots()
    assert said["vda"] == "1024M"
    root = root_of(guest)
    assert guest.run("cat /sys/block/vda/serial") == root[:20]
    shown = world.admin.compute.get(f"/servers/{guest.id}", microversion="2.96").json()["server"]
    assert (shown["image"], shown["OS-EXT-SRV-ATTR:root_device_name"]) == ("", "/dev/vda")
    assert shown["os-extended-volumes:volumes_attached"] == [{"id": root, "delete_on_termination": True}]
    volume = world.cloud.block_storage.get_volume(root)
    assert (volume.status, volume.is_bootable, volume.attachments[0]["server_id"]) == ("in-use", True, guest.id)
    assert volume.volume_image_metadata["image_id"] == world.image_id
    assert not (world.data / "agents" / guest.host / "guests" / guest.id / "disk").exists()
    guest.run(f"echo first > {NOTE}; sync")


def test_it_lives_as_any_other(guest: Guest) -> None:
    guest.do("stop_server", "SHUTOFF")
    guest.do("start_server", "ACTIVE")
    assert guest.boots()["boots"] == "2"
    guest.do("pause_server", "PAUSED")
    guest.do("unpause_server", "ACTIVE")
    guest.run("echo in memory > /run/kept")
    guest.do("suspend_server", "SUSPENDED")
    guest.do("resume_server", "ACTIVE")
    assert guest.run("cat /run/kept") == "in memory"
    guest.do("reboot_server", "ACTIVE", "HARD")
    assert guest.boots()["boots"] == "3"
    assert guest.run(f"cat {NOTE}") == "first"


def test_what_would_break_it_is_refused(world: World, guest: Guest) -> None:
    root, compute, storage = root_of(guest), world.cloud.compute, world.cloud.block_storage
    with pytest.raises(BadRequest, match="Cannot detach a root device volume"):
        compute.delete_volume_attachment(guest.id, root, ignore_missing=False)
    with pytest.raises(BadRequest, match="must not be attached"):
        storage.delete_volume(root, ignore_missing=False)
    with pytest.raises(BadRequest, match="Backup is not supported for volume-backed"):
        act(world, guest, {"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}})
    with pytest.raises(BadRequest, match="cannot be rescued: Cannot rescue a volume-backed instance"):
        act(world, guest, {"rescue": {"rescue_image_ref": world.image_id}})
    refused = world.client("server", "create", "--volume", root, "--flavor", "m1.nano", "second", refused=True)
    assert "status must be 'available'" in refused
    assert guest.settles("ACTIVE").vm_state == "active"


def test_volumes_beside_the_root_have_names_and_order(world: World, guest: Guest) -> None:
    """Also: a name that is taken, a volume that is in use, delete_on_termination changed, an extension seen inside."""
    compute = world.cloud.compute
    first, second = made(world, name="one"), made(world, name="two")
    attached(world, guest, first, device="/dev/vdd")
    with pytest.raises(Conflict, match="is in use"):
        compute.create_volume_attachment(guest.id, volume_id=second.id, device="/dev/vdd")
    with pytest.raises(Conflict, match="is in use"):
        compute.create_volume_attachment(guest.id, volume_id=second.id, device="/dev/vda")
    with pytest.raises(BadRequest):
        compute.create_volume_attachment(guest.id, volume_id=first.id)
    assert has(world, second.id, "available")
    attached(world, guest, second)
    listed = [(one.volume_id, one.device) for one in compute.volume_attachments(guest.id)]
    assert listed == [(root_of(guest), "/dev/vda"), (first.id, "/dev/vdd"), (second.id, "/dev/vdb")]
    world.client("server", "volume", "update", guest.id, second.id, "--delete-on-termination")
    assert compute.get_volume_attachment(guest.id, second.id).delete_on_termination is True
    world.client("server", "volume", "update", guest.id, second.id, "--preserve-on-termination")
    with pytest.raises(BadRequest, match="must not be attached"):
        world.cloud.block_storage.delete_volume(first.id, ignore_missing=False)
    world.cloud.block_storage.extend_volume(second, 2)
    guest.says("resize disk vdc 2048M")  # the guest's own name of it: the second that was plugged in
    assert has(world, second.id, "in-use").size == 2
    for volume in (first, second):
        compute.delete_volume_attachment(guest.id, volume.id)
        has(world, volume.id, "available")
    drop(world, first, second)


def test_a_volume_is_swapped_under_a_guest_that_uses_it(world: World, guest: Guest) -> None:
    old, new = made(world, name="old"), made(world, name="new", size=2)
    attached(world, guest, old)
    disk = f"/dev/{guest.says('CHRONOVA-HOTPLUG add disk').split()[3]}"
    guest.run(f"echo before the swap | dd of={disk} conv=fsync")
    path = f"/servers/{guest.id}/os-volume_attachments/{old.id}"
    body = {"volumeAttachment": {"volumeId": new.id}}
    assert world.cloud.compute.put(path, json=body, microversion="2.96").status_code == 403
    assert world.admin.compute.put(path, json=body, microversion="2.96").status_code == 202
    has(world, new.id, "in-use")
    assert has(world, old.id, "available").attachments == []
    assert guest.run(f"head -n 1 {disk}; cat /sys/block/{disk[5:]}/size") == f"before the swap\n{2 * 2 << 20}"
    guest.run(f"echo after the swap | dd of={disk} conv=fsync")
    world.cloud.compute.delete_volume_attachment(guest.id, new.id)
    has(world, new.id, "available")
    for volume, text in ((old, "before the swap"), (new, "after the swap")):
        attached(world, guest, volume)
        disk = f"/dev/{guest.says('CHRONOVA-HOTPLUG add disk').split()[3]}"
        assert guest.run(f"head -n 1 {disk}") == text
        world.cloud.compute.delete_volume_attachment(guest.id, volume.id)
        has(world, volume.id, "available")
    drop(world, old, new)


def test_a_broken_root_volume_is_repaired_in_a_rescue(world: World, guest: Guest) -> None:
    """The boot sector is wiped; only the rescue disk boots then, with the own disk still called vda."""
    tiny = str(world.data / "images" / world.image_id)
    words = ["--disk-format", "qcow2", "--property", "hw_rescue_bus=virtio", "--file", tiny, "-f", "json", "rescuer"]
    image_id = json.loads(world.client("image", "create", *words))["id"]
    guest.run("dd if=/dev/vda of=/data/sector bs=440 count=1; sync; dd if=/dev/zero of=/dev/vda bs=440 count=1; sync")
    act(world, guest, {"rescue": {"rescue_image_ref": image_id, "adminPass": "Rescue-1"}})
    guest.settles("RESCUE")
    said = guest.boots()
    assert (said["vda"], "vdb" in said) == ("1024M", True)
    guest.run("dd if=/data/sector of=/dev/vda bs=440 count=1 conv=notrunc,fsync; rm /data/sector; sync")
    guest.do("unrescue_server", "ACTIVE")
    assert "vdb" not in guest.boots()
    assert guest.run(f"cat {NOTE}") == "first"
    world.cloud.image.delete_image(image_id)


def test_an_image_of_it_is_snapshots_and_boots(world: World, guest: Guest) -> None:
    compute, storage = world.cloud.compute, world.cloud.block_storage
    guest.run(f"echo in the image > {NOTE}; sync")
    image_id = compute.create_server_image(guest.id, "of-volumes").id
    guest.settles("ACTIVE")
    image = world.cloud.image.get_image(image_id)
    assert (image.status, image.size) == ("active", 0)
    (described,) = json.loads(image.properties["block_device_mapping"])
    snapshot = storage.get_snapshot(described["snapshot_id"])
    assert (snapshot.status, snapshot.volume_id) == ("available", root_of(guest))
    guest.run(f"echo first > {NOTE}; sync")
    other = Guest(world, json.loads(world.client(*_create("other", "--image", "of-volumes")))["id"])
    other.boots()
    assert other.run(f"cat {NOTE}") == "in the image"
    copy = root_of(other)
    assert copy != root_of(guest)
    other.delete()
    gone(world, copy)
    world.cloud.image.delete_image(image_id)
    storage.delete_snapshot(snapshot)
    storage.wait_for_delete(snapshot, interval=0.2, wait=120)


def _create(name: str, *words: str) -> list[str]:
    return ["server", "create", "--flavor", "m1.nano", "--network", "private", *words, "--wait", "-f", "json", name]


def test_rebuild_keeps_the_volume_or_fills_it_anew(world: World, guest: Guest) -> None:
    fields = {"disk_format": "raw", "container_format": "bare", "data": b"not the same"}
    other = world.cloud.image.create_image("other", **fields)
    with pytest.raises(BadRequest, match="Unable to rebuild with a different image for a volume-backed server"):
        act(world, guest, {"rebuild": {"imageRef": other.id}}, "2.92")
    world.cloud.image.delete_image(other)
    act(world, guest, {"rebuild": {"imageRef": world.image_id}}, "2.92")
    guest.settles("ACTIVE")
    guest.boots()
    assert guest.run(f"cat {NOTE}") == "first"
    root = root_of(guest)
    act(world, guest, {"rebuild": {"imageRef": world.image_id}}, "2.93")
    guest.settles("ACTIVE")
    said = guest.boots()
    assert (said["boots"], said["vda"], root_of(guest)) == ("1", "1024M", root)
    assert guest.run(f"ls {NOTE} || echo gone") == "gone"
    guest.run(f"echo second > {NOTE}; sync")


def test_resize_and_back(world: World, guest: Guest) -> None:
    flavor = world.admin.compute.create_flavor(name="life.volume", ram=128, vcpus=2, disk=5)
    guest.do("resize_server", "VERIFY_RESIZE", flavor.id)
    said = guest.boots()
    assert (said["cpus"], said["vda"]) == ("2", "1024M")
    guest.do("revert_server_resize", "ACTIVE")
    assert guest.boots()["cpus"] == "1"
    assert guest.run(f"cat {NOTE}") == "second"
    world.admin.compute.delete_flavor(flavor)


def test_a_shelved_one_keeps_its_volume_and_makes_no_image(world: World, guest: Guest) -> None:
    images = {image.id for image in world.cloud.image.images()}
    guest.do("shelve_server", "SHELVED_OFFLOADED")
    assert guest.id not in world.domains()
    assert {image.id for image in world.cloud.image.images()} == images
    assert has(world, root_of(guest), "in-use")
    extra = made(world, name="while shelved")
    attached(world, guest, extra)
    guest.do("unshelve_server", "ACTIVE")
    said = guest.boots()
    assert (said["vda"], said["vdb"]) == ("1024M", "1024M")
    assert guest.run(f"cat {NOTE}") == "second"
    world.cloud.compute.delete_volume_attachment(guest.id, extra.id)
    has(world, extra.id, "available")
    drop(world, extra)


def test_a_volume_is_kept_when_its_server_goes_and_boots_the_next(world: World, before: dict[str, list[str]]) -> None:
    """Volume of an image, server of it, server gone, image of the volume, server of that; with a blank disk beside."""
    volume = made(world, name="root", image_id=world.image_id)
    blank = "source_type=blank,destination_type=volume,volume_size=1,delete_on_termination=true"
    first = Guest(world, json.loads(world.client(*_create("1", "--volume", "root", "--block-device", blank)))["id"])
    assert first.boots()["vdb"] == "1024M"
    first.run(f"echo kept > {NOTE}; sync")
    beside = str(first.server.attached_volumes[1].id)
    first.do("stop_server", "SHUTOFF")
    first.delete()
    gone(world, beside)
    assert has(world, volume.id, "available").attachments == []
    uploaded = world.cloud.block_storage.upload_volume_to_image(volume, "of-a-volume", disk_format="qcow2")
    image_id = uploaded["image_id"]
    wait_until(lambda: world.cloud.image.get_image(image_id).status == "active", "the image is active")
    has(world, volume.id, "available")
    second = Guest(world, json.loads(world.client(*_create("2", "--image", "of-a-volume")))["id"])
    second.boots()
    assert second.run(f"cat {NOTE}") == "kept"
    second.delete()
    world.cloud.image.delete_image(image_id)
    drop(world, volume)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """A file system of its own over a folder, with next to no room."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=60)


@pytest.mark.skipif(os.geteuid() != 0 or not can_make_namespaces(), reason="mounting needs root")
def test_a_full_disk_is_said_and_leaves_nothing(world: World, before: dict[str, list[str]]) -> None:
    compute, storage = world.cloud.compute, world.cloud.block_storage
    with full(world.data / "volumes"):
        with pytest.raises(BadRequest, match="Free some space"):
            storage.create_volume(size=1, name="of an image", image_id=world.image_id)
        volume = storage.create_volume(size=1, name="empty")
        wait_until(lambda: storage.get_volume(volume.id).status == "error", "the volume is in error")
        mapping = {"source_type": "image", "destination_type": "volume", "uuid": world.image_id, "volume_size": 1}
        server = Guest(
            world,
            compute.create_server(
                name="no-room",
                flavor_id=compute.find_flavor("m1.nano").id,
                networks="auto",
                block_device_mapping=[mapping | {"boot_index": 0}],
            ).id,
        )
        wait_until(lambda: server.server.status == "ERROR", "the server is in ERROR")
        assert "Delete volumes, snapshots or images" in server.server.fault["message"]
        assert [path for path in (world.data / "volumes").rglob("*") if path.is_file()] == []
        server.delete()
        drop(world, volume)
    folders = [world.data / "agents" / host / "guests" for host in world.system.ready["hosts"]]
    with full(folders[0]), full(folders[1]):
        server = world.create("no-disk")
        wait_until(lambda: server.server.status == "ERROR", "the server is in ERROR")
        assert "disk is full" in server.server.fault["message"]
        server.delete()


def test_the_history_tells_all_of_it(guest: Guest) -> None:
    expected = ["create", "stop", "start", "pause", "unpause", "suspend", "resume", "reboot"]
    expected += ["attach_volume"] * 2 + ["extend_volume"] + ["detach_volume"] * 2
    expected += ["attach_volume", "swap_volume", "detach_volume", *(["attach_volume", "detach_volume"] * 2)]
    expected += ["rescue", "unrescue", "createImage", "rebuild", "rebuild", "resize", "revertResize"]
    expected += ["shelve", "attach_volume", "unshelve", "detach_volume"]
    assert guest.history() == [(action, None) for action in expected]
