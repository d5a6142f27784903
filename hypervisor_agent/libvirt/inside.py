"""Orders that reach into the guest or read what it says: set_password, crash_dump, console_output."""

from __future__ import annotations

from typing import Any

import libvirt
import msgspec

from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.freezing import agent_connected
from hypervisor_agent.libvirt.inspection import console_text
from hypervisor_agent.libvirt.power import needs
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]
AGENT_SECONDS = 30.0


async def set_password(work: Work) -> Details:
    """Through the guest agent, which has to run in the guest."""
    await needs(work, "running")
    user = work.order.params.get("username") or "root"
    password = work.order.params["password"]
    with work.step("set password", 30):
        await wait_for_agent(work)
        await work.guest.call(lambda domain: domain.setUserPassword(user, password, 0))
    record = work.record
    record.spec = msgspec.structs.replace(record.spec, admin_password=None)  # the config drive's is out of date
    work.remember(record)
    return {}


async def crash_dump(work: Work) -> Details:
    """A non-maskable interrupt, and the guest's memory right after it into a file (ELF, as `crash` and gdb read it).

    What the guest itself makes of the interrupt (a dump of its own, a panic) is its configuration.
    """
    await needs(work, "running", "paused")
    with work.step("inject NMI", 10):
        await work.guest.call(lambda domain: domain.injectNMI(0))
    path = work.files.crash_dump
    fresh = path.with_name(f"{path.name}.part")
    with work.step("dump memory", 90):
        try:
            await work.guest.call(
                lambda domain: domain.coreDumpWithFormat(
                    str(fresh), libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, libvirt.VIR_DUMP_MEMORY_ONLY
                )
            )
        except OrderFailed as error:
            fresh.unlink(missing_ok=True)
            raise OrderFailed(
                "dump_failed",
                "The guest was interrupted, but its memory could not be kept. Is the host's disk full?",
                error.fault.message,
                changed=True,
            ) from error
    fresh.replace(path)
    return {"dump": str(path), "size": path.stat().st_size}


async def console_output(work: Work) -> Details:
    length = work.order.params.get("length")
    if work.known is None:
        return {"output": ""}
    return {"output": await work.services.connection.run(console_text, work.files.console_log, length)}


async def wait_for_agent(work: Work) -> None:
    try:
        await work.guest.wait(agent_connected, AGENT_SECONDS, "start its guest agent")
    except OrderFailed as error:
        raise OrderFailed(
            "no_guest_agent",
            "No guest agent answers in this server. Install and start qemu-guest-agent in it, or wait until it is up.",
        ) from error
