"""Guests outlive their agent and their libvirtd; a hypervisor process that dies is noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hypervisor_agent.guest.build import tiny_image
from hypervisor_agent.libvirt.driver import LibvirtDriver
from hypervisor_agent.libvirt.machine import can_run_libvirtd, missing_programs
from tests.agent_lab import Lab, spec
from tests.running import until

pytestmark = [
    pytest.mark.guest,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_run_libvirtd(), reason=f"no libvirtd can run here; not installed: {missing_programs()}"),
    pytest.mark.xdist_group("guest"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    driver = LibvirtDriver("host-1", tmp_path_factory.mktemp("host") / "host-1", {})
    await driver.open()
    lab = Lab(driver, spec(tiny_image(), nics=()))
    try:
        await lab.build()
        yield lab
    finally:
        await lab.do("destroy")
        await lab.driver.close()
        until(lambda: processes_of(lab) == [], "no process is left")
        assert not lab.driver._files.run.exists()


def processes_of(lab: Lab, name: str = "") -> list[int]:
    """The pids of this host's daemons and guests."""
    needle = str(lab.driver._files.data).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if needle in words and name.encode() in words.split(b"\0")[0]:
            found.append(int(path.parent.name))
    return found


def the_process(lab: Lab, name: str) -> int:
    """The one process of this name; for a moment what it starts has its name, too."""
    until(lambda: len(processes_of(lab, name)) == 1, f"there is one {name}")
    return processes_of(lab, name)[0]


async def test_a_guest_outlives_its_agent(lab: Lab) -> None:
    guest = the_process(lab, "qemu-system")
    data = lab.driver._files.data
    await lab.driver.close()
    assert the_process(lab, "qemu-system") == guest
    lab.driver = LibvirtDriver("host-1", data, {})
    await lab.driver.open()
    lab.driver.on_lifecycle(lab.events.append)
    seen = await lab.driver.guests()
    assert [(guest.server_id, guest.power_state, guest.generation) for guest in seen] == [
        (lab.server.server_id, "running", lab.generation)
    ]
    assert (await lab.do("pause")).power_state == "paused"
    assert (await lab.do("unpause")).power_state == "running"


async def test_a_guest_that_an_agent_left_frozen_is_thawed_by_the_next(lab: Lab) -> None:
    """It was killed between freezing and thawing; a guest whose file systems are frozen would hang for ever."""
    await lab.run("true")
    mark = lab.driver._files.guest(lab.server.server_id).frozen
    data, uri = lab.driver._files.data, lab.driver._connection.uri
    await lab.driver.close()
    program = f"""
import os, signal, libvirt, libvirt_qemu
from pathlib import Path
from hypervisor_agent.libvirt.freezing import freeze
domain = libvirt.open({uri!r}).lookupByUUIDString({lab.server.server_id!r})
print(freeze(domain, Path({str(mark)!r})))
print(libvirt_qemu.qemuAgentCommand(domain, '{{"execute": "guest-fsfreeze-status"}}', 30, 0), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    agent = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (agent.returncode, agent.stdout) == (-signal.SIGKILL, '\n{"return":"frozen"}\n'), agent.stderr
    assert mark.exists()
    lab.driver = LibvirtDriver("host-1", data, {})
    await lab.driver.open()
    lab.driver.on_lifecycle(lab.events.append)
    async with asyncio.timeout(120):
        while mark.exists():
            await asyncio.sleep(0.1)
    assert await lab.run("echo it writes >/data/thawed && sync && cat /data/thawed") == "it writes"


async def test_a_dead_libvirtd_comes_back_and_orders_wait_for_it(lab: Lab) -> None:
    daemon = the_process(lab, "libvirtd")
    guest = the_process(lab, "qemu-system")
    os.kill(daemon, signal.SIGKILL)
    assert (await lab.do("pause")).power_state == "paused"
    assert (await lab.do("unpause")).power_state == "running"
    assert the_process(lab, "qemu-system") == guest
    assert the_process(lab, "libvirtd") != daemon
    assert lab.events == []


async def test_a_killed_guest_process_is_told(lab: Lab) -> None:
    guest = the_process(lab, "qemu-system")
    lab.events.clear()
    os.kill(guest, signal.SIGKILL)
    event = await lab.event()
    assert event.server_id == lab.server.server_id
    assert (event.power_state, event.reason) == ("shutdown", "the guest's QEMU process died")
    assert (await lab.do("power_on")).power_state == "running"


@pytest.mark.parametrize("attempt", range(3))
async def test_what_happens_while_libvirtd_is_away_is_told_afterwards(lab: Lab, attempt: int) -> None:
    """Several times: a libvirtd that starts shows a dead guest as running for a moment, but not always long enough."""
    daemon = the_process(lab, "libvirtd")
    guest = the_process(lab, "qemu-system")
    lab.events.clear()
    os.kill(daemon, signal.SIGSTOP)
    os.kill(guest, signal.SIGKILL)
    os.kill(daemon, signal.SIGKILL)
    assert (await lab.event()).power_state == "shutdown"
    assert (await lab.do("power_on")).power_state == "running"


async def test_a_cancelled_order_can_be_given_again(lab: Lab) -> None:
    order = lab.order("power_off", grace_seconds=60)
    task = asyncio.get_running_loop().create_task(lab.carry_out(order))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await lab.carry_out(lab.order("power_off", grace_seconds=0))).power_state == "shutdown"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_without_root_a_session_libvirtd_serves(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same driver as an ordinary user, in a process of its own."""
    image = tiny_image()
    folder = Path(tempfile.mkdtemp(prefix="chronova-session-", dir="/tmp"))  # short, and open to others
    os.chown(folder, 65534, 65534)
    program = f"""
import asyncio, codecs, os, shutil
from pathlib import Path
codecs.lookup("utf-16_be")  # this user may be unable to read Python's own files later
from hypervisor_agent.libvirt.driver import LibvirtDriver
from tests.agent_lab import Lab, spec
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.environ["HOME"] = {str(folder)!r}
async def main():
    shutil.copy("/proc/self/fd/0", {str(folder / "tiny.qcow2")!r})
    driver = LibvirtDriver("host-1", Path({str(folder / "data")!r}), {{"stop_guests": True}})
    await driver.open()
    lab = Lab(driver, spec(Path({str(folder / "tiny.qcow2")!r})))
    try:
        await lab.build()
        print("ready", await lab.boots())
        print("off", (await lab.do("power_off")).power_state)
    finally:
        await lab.do("destroy")
        await driver.close()
asyncio.run(main())
"""
    try:
        with image.open("rb") as file:
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", program],
                stdin=file,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
                cwd=Path(__file__).parents[2],
            )
        assert done.returncode == 0, done.stderr
        assert "'host': 'web-1'" in done.stdout
        assert "off shutdown" in done.stdout
    finally:
        await asyncio.to_thread(subprocess.run, ["rm", "-rf", str(folder)], check=True)
