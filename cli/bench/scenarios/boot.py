"""boot: a real guest, from POST /servers to ACTIVE and to its console marker, beside bare libvirt doing the same.

The bare one is the same guest (definition, image, config drive) under another name on the same libvirtd: a disk is
made, the domain defined and started, its console watched, by this process directly. What lies between the two is the
control plane: acceptance, scheduling, the steps and their records, and the making of the config drive.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

from cli.bench.figures import Board
from cli.bench.plan import Plan
from cli.bench.target import Target, checked
from cli.bench.watcher import Watcher, watching
from cli.errors import Stop
from hypervisor_agent.driver import best_driver
from hypervisor_agent.libvirt.daemon import Daemons
from hypervisor_agent.libvirt.files import GuestFiles, HostFiles

NAME = "boot"
HOST = "host-1"
MARKER = b"CHRONOVA-READY"
BOOT_SECONDS = 180.0
QEMU_IMG_SECONDS = 60.0
POLL_SECONDS = 0.005


async def measure(plan: Plan, board: Board) -> None:
    if best_driver() != "libvirt":
        board.note(NAME, "a real guest", "not measured: QEMU or libvirtd is not installed here")
        return
    # Guests must not outlive what started them for a measurement.
    environment = {"CHRONOVA_DRIVER_STOP_GUESTS": "true"}
    async with (
        Target.start(
            driver="libvirt", hosts=1, sync=plan.sync, directory=plan.directory, environment=environment
        ) as target,
        watching(target) as watcher,
    ):
        board.add(NAME, "start to ready with libvirt", {"whole_s": target.seconds_to_ready})
        for run in range(plan.runs):
            plan.say(f"run {run + 1}: a guest by chronova, then by libvirt alone")
            await _one_run(board, target, watcher)


async def _one_run(board: Board, target: Target, watcher: Watcher) -> None:
    began = perf_counter()
    answer = checked(await target.call(target.new_server("bench"), 202), 202)
    server_id = json.loads(answer.body)["server"]["id"]
    active = await watcher.ended(watcher.expect_created(server_id))
    guest = _files(target, server_id)
    booted = await _marker(guest.console_log)
    figures = {"accepted_ms": answer.seconds * 1000, "active_ms": (active - began) * 1000}
    board.add(NAME, "chronova", figures | {"marker_ms": (booted - began) * 1000})
    bare = Bare(target, guest, server_id)
    await asyncio.to_thread(bare.read_definition)
    # Stopped, not deleted: with its last guest the host would let go of the image's copy.
    stopped = watcher.expect(server_id)
    await target.call(target.action(server_id, "os-stop"), 202)
    await watcher.ended(stopped)
    try:
        began = perf_counter()
        await asyncio.to_thread(bare.start)
        active = perf_counter()
        booted = await _marker(bare.folder / "console.log")
        figures = {"active_ms": (active - began) * 1000, "marker_ms": (booted - began) * 1000}
        board.add(NAME, "libvirt alone", figures)
    finally:
        await asyncio.to_thread(bare.end)
    gone = watcher.expect(server_id)
    await target.call(target.request("DELETE", f"/compute/v2.1/servers/{server_id}"), 204)
    await watcher.ended(gone)


def _files(target: Target, server_id: str) -> GuestFiles:
    found = next(target.data.glob(f"agents/**/guests/{server_id}"), None)
    if found is None:
        raise Stop(f"the agent keeps no guest {server_id} below {target.data / 'agents'}")
    return HostFiles(found.parent.parent).guest(server_id)


async def _marker(console: Path) -> float:
    limit = perf_counter() + BOOT_SECONDS
    while perf_counter() < limit:
        if _has_marker(console):
            return perf_counter()
        await asyncio.sleep(POLL_SECONDS)
    raise Stop(f"the guest did not come up within {BOOT_SECONDS:g} s: {console}")


def _has_marker(console: Path) -> bool:
    try:
        return MARKER in console.read_bytes()
    except FileNotFoundError:
        return False


class Bare:
    """A copy of a guest of chronova, started without it. Blocking: call it from a thread."""

    def __init__(self, target: Target, guest: GuestFiles, server_id: str) -> None:
        import libvirt

        self._libvirt: Any = libvirt
        host = HostFiles(guest.folder.parent.parent)
        self._connection = libvirt.open(Daemons(HOST, host).uri)
        self._guest = guest
        self._server_id = server_id
        self._id = str(uuid4())
        self.folder = target.data / "bare" / self._id
        self._xml = ""
        self._disk_info = ""
        self._domain: Any = None

    def read_definition(self) -> None:
        """What it is like, while it is there."""
        running = self._connection.lookupByUUIDString(self._server_id)
        xml = running.XMLDesc(self._libvirt.VIR_DOMAIN_XML_INACTIVE)
        xml = re.sub(r"<metadata>.*?</metadata>", "", xml, flags=re.S)
        xml = re.sub(r"<name>[^<]*</name>", "<name>bare</name>", xml, count=1)
        self._xml = xml.replace(str(self._guest.folder), str(self.folder)).replace(self._server_id, self._id)
        self.folder.mkdir(parents=True)
        # The disk of a guest that was never started: the image's overlay is made anew, the config drive is as it was.
        if self._guest.config_drive.exists():
            shutil.copy(self._guest.config_drive, self.folder)
        self._disk_info = _qemu_img("info", "-U", "--output=json", str(self._guest.disk))

    def start(self) -> None:
        about = json.loads(self._disk_info)
        backing = ["-b", about["full-backing-filename"], "-F", about["backing-filename-format"]]
        disk = str(self.folder / self._guest.disk.name)
        _qemu_img("create", "-q", "-f", "qcow2", *backing, disk, str(about["virtual-size"]))
        self._domain = self._connection.defineXML(self._xml)
        self._domain.create()

    def end(self) -> None:
        if self._domain is not None:
            if self._domain.isActive():
                self._domain.destroy()
            self._domain.undefine()
        self._connection.close()


def _qemu_img(*arguments: str) -> str:
    command = ["qemu-img", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=QEMU_IMG_SECONDS).stdout
