"""Orders about running or not: power_on, power_off, reboots, pause, unpause, suspend, resume."""

from __future__ import annotations

from typing import Any

from domain.orders import PowerStateName
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]
GRACE_SECONDS = 60.0


async def power_on(work: Work) -> Details:
    """Start it; a suspended guest goes on where it was. A paused one is on already and runs again."""
    state = await work.guest.power_state()
    if state == "paused":
        with work.step("unpause guest"):
            await work.guest.call(lambda domain: domain.resume())
    elif state != "running":
        if state == "crashed":
            await work.guest.force_off()
        with work.step("start guest", 20):
            if state != "suspended":
                await work.prepare()
            await work.start()
    return {}


async def power_off(work: Work) -> Details:
    if await work.guest.power_state() in ("shutdown", "nostate"):
        return {"clean": True}
    with work.step("stop guest", 20):
        return {"clean": await work.guest.shut_off(grace_seconds(work))}


async def reboot_soft(work: Work) -> Details:
    """The guest shuts itself down and is started again; one that does not obey in time is forced."""
    with work.step("stop guest", 10):
        clean = await work.guest.shut_off(grace_seconds(work))
    with work.step("start guest", 60):
        await work.prepare()
        await work.start()
    return {"clean": clean}


async def reboot_hard(work: Work) -> Details:
    """Off without asking, defined anew, on."""
    with work.step("stop guest", 10):
        await work.guest.force_off()
    with work.step("start guest", 50):
        await work.prepare()
        await work.start()
    return {}


async def pause(work: Work) -> Details:
    if await needs(work, "running", "paused") != "paused":
        with work.step("pause guest"):
            await work.guest.call(lambda domain: domain.suspend())
    return {}


async def unpause(work: Work) -> Details:
    if await needs(work, "paused", "running") != "running":
        with work.step("unpause guest"):
            await work.guest.call(lambda domain: domain.resume())
    return {}


async def suspend(work: Work) -> Details:
    """The guest's memory goes to the host's disk and the guest off it."""
    if await needs(work, "running", "paused", "suspended") != "suspended":
        with work.step("save memory", 10):
            await work.guest.call(lambda domain: domain.managedSave(0))
    return {}


async def resume(work: Work) -> Details:
    if await needs(work, "suspended", "running") != "running":
        with work.step("restore memory", 10):
            await work.start()
    return {}


def grace_seconds(work: Work) -> float:
    return float(work.order.params.get("grace_seconds", GRACE_SECONDS))


async def needs(work: Work, *states: PowerStateName) -> PowerStateName:
    """The guest's power state, which must be one of these."""
    state = await work.guest.power_state()
    if state not in states:
        raise OrderFailed(
            "wrong_power_state",
            f"{work.order.kind} needs a guest that is {' or '.join(states)}; it is {state}. Start it first.",
            power_state=state,
        )
    return state
