"""The libvirt driver against one real guest: every order, judged by what the guest itself shows."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import libvirt
import msgspec
import pytest
import pytest_asyncio

from domain.orders import ImageSpec, VolumeSpec
from hypervisor_agent.driver import OrderFailed, Unsupported
from hypervisor_agent.guest.build import tiny_image
from hypervisor_agent.libvirt import disks, guest, snapshot
from hypervisor_agent.libvirt.driver import LibvirtDriver
from hypervisor_agent.libvirt.machine import can_make_bridges, can_run_libvirtd, missing_programs
from hypervisor_agent.libvirt.networks import bridge_name
from tests.agent_lab import Lab, spec

pytestmark = [
    pytest.mark.guest,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_run_libvirtd(), reason=f"no libvirtd can run here; not installed: {missing_programs()}"),
    pytest.mark.xdist_group("guest"),
]
UNPLUG_EVENT = "/sys/firmware/acpi/interrupts/gpe01"
INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE
USER_DATA = "#!/bin/sh\necho user data ran as $(id -un)\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    folder = tmp_path_factory.mktemp("host")
    driver = LibvirtDriver("host-1", folder / "host-1", {"stop_guests": True})
    await driver.open()
    server = spec(
        tiny_image(),
        admin_password='s3cr"et',
        ssh_public_keys=(("mine", "ssh-ed25519 AAAAC3 me@home"),),
        user_data=base64.b64encode(USER_DATA.encode()).decode(),
    )
    lab = Lab(driver, server)
    try:
        await lab.build()
        yield lab
    finally:
        await lab.do("destroy")
        await driver.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def volume(folder: Path, name: str, **changes: Any) -> VolumeSpec:
    path = folder / name
    with path.open("wb") as file:
        file.truncate(8 << 20)
    return VolumeSpec(id=f"{name}-1111-2222", path=str(path), **changes)


async def test_spawn_boots_the_guest_as_ordered(lab: Lab) -> None:
    ready = await lab.boots()
    assert ready["uuid"] == lab.server.server_id
    assert (ready["boots"], ready["cpus"], ready["host"]) == ("1", "1", "web-1")
    assert ready["vda"] == "1024M"
    assert ready["eth0"] == lab.server.nics[0].mac
    assert ready["ip"] == lab.server.nics[0].addresses[0].address


async def test_config_drive_reaches_the_guest(lab: Lab) -> None:
    assert "user data ran as root" in await lab.says("user data ran")
    assert await lab.run("cat /data/root/.ssh/authorized_keys") == "ssh-ed25519 AAAAC3 me@home"
    assert await lab.run("cat /etc/resolv.conf") == f"nameserver {lab.server.nics[0].addresses[0].gateway}"
    assert await lab.run("cat /sys/class/net/eth0/mtu") == "1450"
    assert await lab.run("dd if=/dev/sr0 bs=1 skip=32808 count=8 2>/dev/null") == "config-2"


@pytest.mark.skipif(not can_make_bridges(), reason="bridges need root with CAP_NET_ADMIN")
async def test_the_host_reaches_the_guest_over_its_bridge(lab: Lab) -> None:
    await lab.run("echo hello from inside >/run/index.html; httpd -p 8080 -h /run")
    address = lab.server.nics[0].addresses[0].address
    reader, writer = await asyncio.wait_for(asyncio.open_connection(address, 8080), 60)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert b"hello from inside" in await reader.read()
    writer.close()


async def test_a_repeated_order_changes_nothing(lab: Lab) -> None:
    order = lab.order("power_on")
    assert (await lab.carry_out(order)).power_state == "running"
    again = await lab.carry_out(order)
    assert (again.power_state, again.details) == ("running", {"repeated": True})
    assert (await lab.do("spawn")).power_state == "running"
    assert await lab.run("cat /data/boots") == "1"
    assert [guest.generation for guest in await lab.driver.guests()] == [lab.generation]


async def test_an_order_of_an_older_generation_is_refused(lab: Lab) -> None:
    old = msgspec.structs.replace(lab.order("power_off"), generation=1)
    with pytest.raises(OrderFailed) as refused:
        await lab.carry_out(old)
    assert refused.value.fault.code == "superseded"
    assert refused.value.power_state == "running"


async def test_the_metadata_names_generation_and_order(lab: Lab) -> None:
    order = lab.order("unpause")
    await lab.carry_out(order)
    xml = await lab.driver._guest(lab.server.server_id).call(lambda domain: domain.metadata(2, "urn:chronova:guest:1"))
    assert f'generation="{order.generation}"' in xml.replace("'", '"')
    assert f'order="{order.id}"' in xml.replace("'", '"')


async def test_pause_and_suspend_keep_the_guest_s_memory(lab: Lab) -> None:
    await lab.run("echo kept >/run/memory")
    assert (await lab.do("pause")).power_state == "paused"
    assert (await lab.do("pause")).power_state == "paused"
    assert (await lab.do("unpause")).power_state == "running"
    assert (await lab.do("suspend")).power_state == "suspended"
    assert [guest.power_state for guest in await lab.driver.guests()] == ["suspended"]
    assert (await lab.do("resume")).power_state == "running"
    assert await lab.run("cat /run/memory") == "kept"


async def test_set_password_lets_its_owner_log_in(lab: Lab) -> None:
    await lab.do("set_password", username="root", password="n3w-Pass")
    address = await lab.driver.console_address(lab.server.server_id, "serial")
    assert address[0] == "unix"
    reader, writer = await asyncio.open_unix_connection(address[1])

    async def talk(text: str, expect: bytes) -> None:
        writer.write(text.encode() + b"\r")
        await asyncio.wait_for(reader.readuntil(expect), 60)

    await talk("", b"login: ")
    await talk("root", b"assword: ")
    await talk("n3w-Pass", b"# ")
    await talk("echo $((6*7))-$(hostname)", b"42-web-1")
    writer.close()


async def test_the_screen_answers_as_vnc(lab: Lab) -> None:
    address = await lab.driver.console_address(lab.server.server_id, "vnc")
    assert address[0] == "unix"
    reader, writer = await asyncio.open_unix_connection(address[1])
    assert (await asyncio.wait_for(reader.readexactly(12), 60)).startswith(b"RFB ")
    writer.close()


async def test_diagnostics_count_what_the_guest_did(lab: Lab) -> None:
    await lab.run("dd if=/dev/zero of=/data/zeros bs=64k count=4 conv=fsync; rm /data/zeros")
    found = await lab.driver.diagnostics(lab.server.server_id)
    assert (found["state"], found["num_cpus"], found["num_nics"], found["num_disks"]) == ("running", 1, 1, 2)
    assert found["cpu_details"][0]["time"] > 0
    assert found["disk_details"][0]["write_bytes"] >= 4 << 16
    assert found["config_drive"] is True


async def test_volumes_come_change_and_go_while_the_guest_runs(lab: Lab, images: Path) -> None:
    first, second = volume(images, "first"), volume(images, "second")
    done = await lab.do("attach_volume", volume=msgspec.to_builtins(first))
    assert done.details == {"device": "/dev/vdb"}
    assert f"vdb 8M serial={first.id[:20]}" in await lab.says("HOTPLUG add disk")
    assert (await lab.do("attach_volume", volume=msgspec.to_builtins(first))).details == {"device": "/dev/vdb"}
    await lab.run("echo hello volume | dd of=/dev/vdb conv=fsync 2>/dev/null")
    assert Path(first.path).read_bytes().startswith(b"hello volume")
    swap = {"old": msgspec.to_builtins(first), "new": msgspec.to_builtins(second)}
    assert (await lab.do("swap_volume", **swap)).details == {"device": "/dev/vdb"}
    assert Path(second.path).read_bytes().startswith(b"hello volume")
    await lab.run("echo hello second | dd of=/dev/vdb conv=fsync 2>/dev/null")
    assert Path(second.path).read_bytes().startswith(b"hello second")
    assert Path(first.path).read_bytes().startswith(b"hello volume")
    await lab.do("detach_volume", volume=msgspec.to_builtins(second))
    assert "vdb" in await lab.says("HOTPLUG remove disk")
    await lab.do("detach_volume", volume=msgspec.to_builtins(second))


async def test_a_paused_guest_is_not_asked_to_let_go(lab: Lab, images: Path) -> None:
    disk, nic = msgspec.to_builtins(volume(images, "kept")), msgspec.to_builtins(lab.server.nics[0])
    await lab.do("attach_volume", volume=disk)
    await lab.says("HOTPLUG add disk")
    await lab.do("pause")
    for what, refused in (("volume kept", lab.do("detach_volume", volume=disk)), ("interface", _out(lab, nic))):
        with pytest.raises(OrderFailed, match=f"A paused guest cannot let go of {what}.*Unpause the server") as failed:
            await refused
        assert failed.value.fault.code == "guest_paused"
    await lab.do("unpause")
    assert await lab.run("ls /sys/block | grep vd; ls -d /sys/class/net/eth*") == "vda\nvdb\n/sys/class/net/eth0"
    await lab.do("detach_volume", volume=disk)


async def _out(lab: Lab, nic: dict[str, Any]) -> None:
    await lab.do("detach_interface", nic=nic)


async def test_what_a_guest_lets_go_of_late_is_told_until_an_order_ends_it(
    lab: Lab, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears of an unplug by an event of ACPI; while that is masked the question waits in the hypervisor."""

    async def gone() -> tuple[str, ...]:
        return (await lab.driver.guests())[0].let_go

    late = volume(images, "late")
    disk = msgspec.to_builtins(late)
    await lab.do("attach_volume", volume=disk)
    await lab.says("HOTPLUG add disk")
    await lab.run(f"echo mask > {UNPLUG_EVENT}")
    with monkeypatch.context() as hasty:
        hasty.setattr(guest, "UNPLUG_SECONDS", 0.0)
        with pytest.raises(OrderFailed, match="Stop using it there") as failed:
            await lab.do("detach_volume", volume=disk)
    assert failed.value.fault.code == "device_busy"
    assert await gone() == ()
    lab.events.clear()
    await lab.run(f"echo unmask > {UNPLUG_EVENT}")
    assert (await lab.event()).let_go == (late.id,)
    assert await lab.run("ls /sys/block | grep vd") == "vda"
    assert await gone() == (late.id,)
    await lab.do("detach_volume", volume=disk)
    assert await gone() == ()
    assert "vdb" not in await lab.driver._guest(lab.server.server_id).call(lambda domain: domain.XMLDesc(INACTIVE))


async def test_a_larger_volume_takes_a_smaller_ones_place_and_grows(lab: Lab, images: Path) -> None:
    small, large = (
        VolumeSpec(id=name, path=str(images / name), disk_format="qcow2", size_gb=size)
        for name, size in (("small", 1), ("large", 2))
    )
    for one in (small, large):
        await disks.qemu_img("create", "-q", "-f", "qcow2", one.path, f"{one.size_gb}G")
    await lab.do("attach_volume", volume=msgspec.to_builtins(small))
    await lab.says("HOTPLUG add disk")
    await lab.run("echo hello large | dd of=/dev/vdb conv=fsync 2>/dev/null")
    old, new = msgspec.to_builtins(small), msgspec.to_builtins(large)
    await lab.do("swap_volume", old=old, new=new)
    assert await lab.run("head -n 1 /dev/vdb; cat /sys/block/vdb/size") == f"hello large\n{2 * 2 << 20}"
    await lab.do("swap_volume", old=new | {"id": "neither"}, new=new)  # taking back what was never begun
    await lab.do("extend_volume", volume=new, size_gb=3)
    await lab.says("resize disk vdb 3072M")
    await lab.do("snapshot_volumes", snapshots=[{"volume_id": "large", "path": str(images / "copy")}])
    assert (await disks.info(images / "copy"))["virtual-size"] == 3 << 30
    await lab.do("detach_volume", volume=new)
    await lab.says("HOTPLUG remove disk")


async def test_an_interface_comes_and_goes_while_the_guest_runs(lab: Lab) -> None:
    nic = msgspec.structs.replace(lab.server.nics[0], port_id="second", mac="fa:16:3e:aa:bb:cc", addresses=())
    await lab.do("attach_interface", nic=msgspec.to_builtins(nic))
    assert "eth1 fa:16:3e:aa:bb:cc" in await lab.says("HOTPLUG add nic")
    await lab.do("detach_interface", nic=msgspec.to_builtins(nic))
    assert "eth1" in await lab.says("HOTPLUG remove nic")


async def test_a_live_snapshot_is_a_flat_image_of_that_instant(
    lab: Lab, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypervisor_agent.libvirt.guest.POLL_SECONDS", 0.005)  # a fast disk copies it all in 0.1
    await lab.run("echo at the snapshot >/data/marker; sync")
    await lab.run("dd if=/dev/zero of=/dev/vda bs=1M seek=300 count=400; sync")
    target = images / "snapshot.qcow2"
    for _ in range(5):  # on a busy machine nobody may look in the middle of it
        done = await lab.do("snapshot", image_id="snap", image_path=str(target))
        copied = [percent for percent, what in lab.told if what == "copy disk"]
        assert copied == sorted(copied)
        if any(0 < percent < 99 for percent in copied):
            break
        target.unlink()
    else:
        raise AssertionError(f"how far it is was never told: {copied}")
    await lab.run("echo later >/data/marker; sync")
    assert done.power_state == "running"
    assert done.details["quiesced"] is True
    assert done.details["virtual_size"] == 1 << 30
    assert "backing-filename" not in await disks.info(target, "qcow2")
    assert list(images.glob("*.part")) == []


async def test_file_systems_are_frozen_for_the_instant_of_a_copy_and_never_longer(
    lab: Lab, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = lab.driver._files.guest(lab.server.server_id).frozen
    order = {"image_id": "snap", "image_path": str(images / "frozen.qcow2"), "require_quiesce": True}
    await lab.run("echo written-$((6*7))-and-not-synced >/data/late")
    done = await lab.do("snapshot", **order)
    assert done.details["quiesced"] is True
    assert b"written-42-and-not-synced" in (images / "frozen.qcow2").read_bytes()
    await lab.do("pause")
    with pytest.raises(OrderFailed, match=r"os_require_quiesce.*not running") as refused:
        await lab.do("snapshot", **order)
    assert refused.value.fault.code == "not_quiesced"
    assert (await lab.do("snapshot", **order | {"require_quiesce": False})).details["quiesced"] is False
    await lab.do("unpause")
    nothing = "<domainbackup mode='push'><disks><disk name='none' backup='yes' type='file'/></disks></domainbackup>"
    monkeypatch.setattr(snapshot, "tostring", lambda *_, **__: nothing)
    with pytest.raises(OrderFailed, match="refused"):
        await lab.do("snapshot", **order)
    assert not mark.exists()
    assert await lab._agent("guest-fsfreeze-status", {}) == "thawed"


async def test_power_off_is_clean_and_power_on_boots_again(lab: Lab) -> None:
    done = await lab.do("power_off")
    assert (done.power_state, done.details["clean"]) == ("shutdown", True)
    assert "CHRONOVA-POWEROFF" in await lab.says("CHRONOVA-POWEROFF")
    assert (await lab.do("power_off")).power_state == "shutdown"
    with pytest.raises(OrderFailed) as refused:
        await lab.do("pause")
    assert refused.value.fault.code == "wrong_power_state"
    with pytest.raises(OrderFailed):
        await lab.driver.console_address(lab.server.server_id, "vnc")
    assert (await lab.do("power_on")).power_state == "running"
    assert (await lab.boots())["boots"] == "2"


async def test_soft_reboot_lets_the_guest_go_down_by_itself(lab: Lab) -> None:
    done = await lab.do("reboot_soft")
    assert done.details == {"clean": True}
    assert [step.name for step in done.sub_steps] == ["stop guest", "start guest"]
    assert all(step.finished_at is not None for step in done.sub_steps)
    assert (await lab.boots())["boots"] == "3"


async def test_rescue_shows_the_own_disk_second_and_unrescue_goes_back(lab: Lab) -> None:
    await lab.do("rescue", image=None, admin_password="rescue-me")
    ready = await lab.boots()
    assert (ready["boots"], ready["vdb"]) == ("1", "1024M")
    await lab.run("mkdir -p /mnt && mount /dev/vdb2 /mnt && echo repaired >/mnt/repaired && umount /mnt && sync")
    assert (await lab.do("unrescue")).power_state == "running"
    assert (await lab.boots())["boots"] == "4"
    assert await lab.run("cat /data/repaired") == "repaired"


async def test_resize_grows_the_guest_and_revert_takes_it_back(lab: Lab) -> None:
    await lab.do("resize", flavor={"vcpus": 2, "ram": 128, "disk": 2})
    ready = await lab.boots()
    assert (ready["cpus"], ready["vda"], ready["boots"]) == ("2", "2048M", "5")
    await lab.do("resize_revert")
    ready = await lab.boots()
    assert (ready["cpus"], ready["vda"], ready["boots"]) == ("1", "1024M", "5")
    assert (await lab.do("resize_revert")).power_state == "running"


async def test_crash_dump_interrupts_the_kernel(lab: Lab) -> None:
    assert (await lab.do("crash_dump")).power_state == "running"
    assert "NMI" in await lab.says("Kernel panic - not syncing")


async def test_rebuild_starts_over_from_another_image(lab: Lab, images: Path) -> None:
    image = ImageSpec("snap", str(images / "snapshot.qcow2"))
    lab.server = msgspec.structs.replace(lab.server, image=image)
    assert (await lab.do("rebuild")).power_state == "running"
    await lab.boots()
    assert await lab.run("cat /data/marker") == "at the snapshot"


async def test_resize_of_a_stopped_guest_stays_off_and_confirm_drops_the_old_disk(lab: Lab) -> None:
    await lab.do("power_off", grace_seconds=0)
    assert (await lab.do("resize", flavor={"vcpus": 1, "ram": 96, "disk": 3})).power_state == "shutdown"
    backup = lab.driver._files.guest(lab.server.server_id).resize_backup
    assert backup.exists()
    assert (await lab.do("resize_confirm")).power_state == "shutdown"
    assert not backup.exists()
    target = backup.parent / "stopped.qcow2"
    done = await lab.do("snapshot", image_id="stopped", image_path=str(target))
    assert (done.power_state, done.details["virtual_size"]) == ("shutdown", 3 << 30)
    copied = [percent for percent, what in lab.told if what == "copy disk"]
    assert copied == sorted(copied)
    assert len(set(copied)) > 3


async def test_what_the_guest_does_by_itself_is_told(lab: Lab) -> None:
    await lab.do("power_on")
    assert (await lab.boots())["vda"] == "3072M"
    lab.events.clear()
    asking = asyncio.create_task(lab.run("poweroff -f"))  # it may be off before it says that it will be
    event = await lab.event()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (event.power_state, event.reason) == ("shutdown", "guest powered itself off")
    guest = lab.driver._guest(lab.server.server_id)
    await guest.start()
    event = await lab.event()
    assert (event.power_state, event.reason) == ("running", "started outside chronova")
    await guest.force_off()
    event = await lab.event()
    assert (event.power_state, event.reason) == ("shutdown", "stopped outside chronova")


async def test_destroy_leaves_nothing(lab: Lab) -> None:
    assert (await lab.do("destroy")).power_state == "nostate"
    assert await lab.driver.guests() == []
    assert list(lab.driver._files.guests.iterdir()) == []
    assert not Path(f"/sys/class/net/{bridge_name(lab.server.nics[0].network_id)}").exists()
    assert (await lab.do("destroy")).power_state == "nostate"
    with pytest.raises(OrderFailed) as refused:
        await lab.do("power_on")
    assert refused.value.fault.code == "no_guest"
    assert not isinstance(refused.value, Unsupported)
