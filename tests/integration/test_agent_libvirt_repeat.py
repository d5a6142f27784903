"""Orders of the libvirt driver that are cut off at any of their sub steps, and then done again.

The cut is where a `kill -9` would be: before or after a sub step, with nothing cleaned up. Guests are started, but
nobody waits for their operating system: what is looked at is what the hypervisor has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from domain.orders import ImageSpec, Order, OrderKind
from hypervisor_agent.driver import Done, OrderFailed
from hypervisor_agent.guest.build import tiny_image
from hypervisor_agent.libvirt.copying import Tell
from hypervisor_agent.libvirt.driver import LibvirtDriver
from hypervisor_agent.libvirt.machine import can_run_libvirtd, missing_programs
from hypervisor_agent.libvirt.work import Work
from tests.agent_lab import Lab, spec

pytestmark = [
    pytest.mark.guest,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_run_libvirtd(), reason=f"no libvirtd can run here; not installed: {missing_programs()}"),
    pytest.mark.xdist_group("guest"),
]
MOST_CUTS = 12


class Killed(BaseException):
    """The agent is gone in this instant; nothing of it may run a handler that tidies up."""


class Cutter:
    """Cuts at the n-th border of a sub step (each has two), and tells when there was none left."""

    def __init__(self) -> None:
        self.at = 0
        self._border = 0

    def begin(self, at: int) -> None:
        self.at, self._border = at, 0

    def border(self) -> None:
        self._border += 1
        if self._border == self.at:
            raise Killed

    @contextmanager
    def step(self, *_: object) -> Iterator[Tell]:
        self.border()
        yield lambda _: None
        self.border()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    driver = LibvirtDriver("host-1", tmp_path_factory.mktemp("host") / "host-1", {"stop_guests": True})
    await driver.open()
    lab = Lab(driver, spec(tiny_image()))
    try:
        yield lab
    finally:
        await lab.do("destroy")
        await driver.close()


async def cut_everywhere(lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: OrderKind, **params: Any) -> Done:
    """The same order, cut off at its first border, then at its second, ..., until it comes through."""
    cutter = Cutter()
    with monkeypatch.context() as patch:
        patch.setattr(Work, "step", cutter.step)
        order: Order = lab.order(kind, grace_seconds=0, **params)
        for at in range(1, MOST_CUTS):
            cutter.begin(at)
            try:
                return await lab.carry_out(order)
            except Killed:
                continue
    raise AssertionError(f"{kind} never came through")


async def held(lab: Lab) -> tuple[str, str, list[str], int]:
    """Power state, vcpus, disks and number of NICs, as the hypervisor has them."""
    guest = lab.driver._guest(lab.server.server_id)
    definition = await guest.definition()
    disks = [source.get("file", "").rsplit("/", 1)[-1] for source in definition.findall("devices/disk/source")]
    nics = definition.findall("devices/interface")
    return await guest.power_state(), definition.findtext("vcpu") or "", disks, len(nics)


async def test_build(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await cut_everywhere(lab, monkeypatch, "create_disk")
    await cut_everywhere(lab, monkeypatch, "config_drive")
    await cut_everywhere(lab, monkeypatch, "spawn")
    assert await held(lab) == ("running", "1", ["disk", "config.iso"], 1)


async def test_power(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: tuple[tuple[OrderKind, str], ...] = (
        ("pause", "paused"),
        ("unpause", "running"),
        ("suspend", "suspended"),
        ("resume", "running"),
        ("reboot_hard", "running"),
        ("power_off", "shutdown"),
        ("power_on", "running"),
    )
    for kind, state in kinds:
        assert (await cut_everywhere(lab, monkeypatch, kind)).power_state == state


async def test_rescue(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await cut_everywhere(lab, monkeypatch, "rescue", image=None)
    assert await held(lab) == ("running", "1", ["disk.rescue", "disk", "config.iso"], 1)
    await cut_everywhere(lab, monkeypatch, "unrescue")
    assert await held(lab) == ("running", "1", ["disk", "config.iso"], 1)


async def test_resize(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    flavor = {"vcpus": 2, "ram": 128, "disk": 2}
    files = lab.driver._files.guest(lab.server.server_id)
    await cut_everywhere(lab, monkeypatch, "resize", flavor=flavor)
    assert await held(lab) == ("running", "2", ["disk", "config.iso"], 1)
    assert files.resize_backup.exists()
    await cut_everywhere(lab, monkeypatch, "resize_revert")
    assert await held(lab) == ("running", "1", ["disk", "config.iso"], 1)
    assert not files.resize_backup.exists()
    await cut_everywhere(lab, monkeypatch, "resize", flavor=flavor)
    await cut_everywhere(lab, monkeypatch, "resize_confirm")
    assert (await held(lab))[1] == "2"
    assert not files.resize_backup.exists()


async def test_rebuild_and_snapshot(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await cut_everywhere(lab, monkeypatch, "rebuild")
    assert await held(lab) == ("running", "1", ["disk", "config.iso"], 1)
    target = tmp_path / "image.qcow2"
    done = await cut_everywhere(lab, monkeypatch, "snapshot", image_id="x", image_path=str(target))
    assert done.power_state == "running"
    assert [path.name for path in tmp_path.iterdir()] == ["image.qcow2"]


async def test_a_guest_outlives_its_image_in_the_store(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    path.write_bytes(Path(lab.server.image.path).read_bytes() if lab.server.image else b"")
    lab.server = msgspec.structs.replace(lab.server, image=ImageSpec("short-lived", str(path)))
    await lab.do("rebuild")
    path.unlink()
    assert (await lab.do("reboot_hard")).power_state == "running"
    assert (await lab.do("rebuild")).power_state == "running"
    kept = lab.driver._files.images
    assert [image.name for image in kept.iterdir()] == ["short-lived"]
    lab.server = msgspec.structs.replace(lab.server, image=ImageSpec("gone", str(path)))
    with pytest.raises(OrderFailed) as failed:
        await lab.do("rebuild")
    assert failed.value.fault.code == "image_missing"
    lab.server = msgspec.structs.replace(lab.server, image=ImageSpec("short-lived", str(path)))
    assert (await lab.do("rebuild")).power_state == "running"


async def test_devices_of_a_guest_that_is_off(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await lab.do("power_off", grace_seconds=0)
    volumes = []
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode() * 4096)
        volumes.append({"id": name, "path": str(tmp_path / name)})
    await cut_everywhere(lab, monkeypatch, "attach_volume", volume=volumes[0])
    assert (await held(lab))[2] == ["disk", "one", "config.iso"]
    await cut_everywhere(lab, monkeypatch, "swap_volume", old=volumes[0], new=volumes[1])
    assert (await held(lab))[2] == ["disk", "two", "config.iso"]
    assert (tmp_path / "two").read_bytes().startswith(b"oneone")
    await cut_everywhere(lab, monkeypatch, "detach_volume", volume=volumes[1])
    nic = msgspec.to_builtins(msgspec.structs.replace(lab.server.nics[0], port_id="x", mac="fa:16:3e:aa:bb:dd"))
    await cut_everywhere(lab, monkeypatch, "attach_interface", nic=nic)
    assert (await held(lab))[2:] == (["disk", "config.iso"], 2)
    await cut_everywhere(lab, monkeypatch, "detach_interface", nic=nic)
    assert (await held(lab))[2:] == (["disk", "config.iso"], 1)


async def test_destroy(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.do("power_on")
    assert (await cut_everywhere(lab, monkeypatch, "destroy")).power_state == "nostate"
    assert await lab.driver.guests() == []
    assert list(lab.driver._files.guests.iterdir()) == []
    assert list(lab.driver._files.images.iterdir()) == []
    assert list(lab.driver._files.daemon.rglob(f"{lab.server.instance_name}*")) == []
