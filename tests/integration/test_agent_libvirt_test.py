"""libvirt's own test hypervisor as a driver: it does what it can and refuses the rest untouched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from domain.orders import OrderKind
from hypervisor_agent.driver import OrderFailed, Unsupported
from hypervisor_agent.libvirt.test_driver import LibvirtTestDriver
from tests.agent_lab import Lab, spec


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    driver = LibvirtTestDriver("host-1", tmp_path / "host-1", {})
    await driver.open()
    lab = Lab(driver, spec(Path("no-image-is-needed")))
    yield lab
    await lab.do("destroy")
    await lab.driver.close()


async def test_a_server_s_life(lab: Lab) -> None:
    await lab.build()
    story: tuple[tuple[OrderKind, str], ...] = (
        ("pause", "paused"),
        ("unpause", "running"),
        ("suspend", "suspended"),
        ("resume", "running"),
        ("reboot_soft", "running"),
        ("reboot_hard", "running"),
        ("power_off", "shutdown"),
        ("power_off", "shutdown"),
        ("power_on", "running"),
        ("rebuild", "running"),
    )
    for kind, state in story:
        assert (await lab.do(kind)).power_state == state, kind
        assert [guest.power_state for guest in await lab.driver.guests()] == [state]
    await lab.do("resize", flavor={"vcpus": 2, "ram": 256, "disk": 1})
    assert (await lab.driver.diagnostics(lab.server.server_id))["num_cpus"] == 2
    await lab.do("resize_revert")
    assert (await lab.driver.diagnostics(lab.server.server_id))["num_cpus"] == 1
    assert (await lab.do("destroy")).power_state == "nostate"
    assert await lab.driver.guests() == []


async def test_what_it_cannot_do_is_refused_as_unsupported(lab: Lab) -> None:
    await lab.build()
    inventory = await lab.driver.inventory()
    assert (inventory.driver, inventory.hypervisor_type) == ("libvirt-test", "test")
    kinds: tuple[OrderKind, ...] = ("snapshot", "attach_volume", "set_password", "rescue", "crash_dump")
    for kind in kinds:
        assert kind not in inventory.capabilities
        with pytest.raises(Unsupported) as refused:
            await lab.do(kind)
        assert not refused.value.changed
    with pytest.raises(Unsupported):
        await lab.driver.console_output(lab.server.server_id, None)


async def test_guests_are_there_again_for_the_next_agent(lab: Lab) -> None:
    await lab.build()
    await lab.do("suspend")
    guest = lab.driver._guest(lab.server.server_id)
    await guest.force_off()
    await guest.undefine()  # what the end of the agent's process does to the test hypervisor
    data = lab.driver._files.data
    await lab.driver.close()
    lab.driver = LibvirtTestDriver("host-1", data, {})
    await lab.driver.open()
    assert [(seen.power_state, seen.generation) for seen in await lab.driver.guests()] == [
        ("suspended", lab.generation)
    ]
    assert (await lab.do("resume")).power_state == "running"


async def test_a_change_from_outside_is_told(lab: Lab) -> None:
    await lab.build()
    guest = lab.driver._guest(lab.server.server_id)
    await guest.call(lambda domain: domain.suspend())
    event = await lab.event()
    assert (event.power_state, event.reason) == ("paused", "paused outside chronova")


async def test_events_of_an_order_that_come_late_do_not_say_why_it_changed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, loop = lab.driver._connection, asyncio.get_running_loop()
    handle = connection._on_event
    monkeypatch.setattr(connection, "_on_event", lambda *event: loop.call_later(0.5, handle, *event))
    await lab.build()
    await lab.driver._guest(lab.server.server_id).call(lambda domain: domain.suspend())
    event = await lab.event()
    assert (event.power_state, event.reason) == ("paused", "paused outside chronova")


async def test_an_order_for_a_guest_that_is_not_there_says_so(lab: Lab) -> None:
    with pytest.raises(OrderFailed) as refused:
        await lab.do("power_on")
    assert refused.value.fault.code == "no_guest"
    assert refused.value.power_state == "nostate"
