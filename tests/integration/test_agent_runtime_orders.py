"""Orders through a real NATS with the agent's own restricted user, and the simulated driver."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from eventlog.nats_server import EmbeddedNats
from tests.agent_fixtures import ControlPlane, agent_settings, order, running_agent, server_id


async def boot(plane: ControlPlane, server: str, first: int = 1) -> int:
    """Create a running guest with the orders `first` and `first + 1`."""
    await plane.send(order("create_disk", server, first))
    await plane.outcome_of(first)
    await plane.send(order("spawn", server, first + 1))
    assert (await plane.outcome_of(first + 1)).power_state == "running"
    return first + 1


async def test_an_order_is_carried_out_reported_and_acknowledged(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        server = server_id()
        await boot(control_plane, server)
        await control_plane.send(order("power_off", server, 3))
        report = await control_plane.outcome_of(3)
        await control_plane.settled()
    assert (report.outcome, report.power_state, report.generation) == ("succeeded", "shutdown", 3)
    assert [inventory["host"] for inventory in control_plane.inventories] == ["host-1"]


async def test_a_host_that_shares_its_machine_offers_its_part(control_plane: ControlPlane, tmp_path: Path) -> None:
    settings = agent_settings(control_plane.url, tmp_path, capacity={"vcpus": 5, "memory_mb": 8193, "disk_gb": 7})
    offered = ("vcpus", "memory_mb", "disk_gb")
    for share, part in ((1, (5, 8193, 7)), (2, (2, 4096, 7)), (8, (1, 1024, 7))):
        control_plane.inventories.clear()
        async with running_agent(dataclasses.replace(settings, share=share)):
            await control_plane.until(lambda: control_plane.inventories, "the host tells what it offers")
        [told] = control_plane.inventories
        assert tuple(told[what] for what in offered) == part


async def test_reports_that_come_together_are_sent_together_and_each_arrives(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    servers = [server_id() for _ in range(60)]
    for number, server in enumerate(servers):
        await control_plane.send(order("create_disk", server, number + 1))
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        for number in range(len(servers)):
            assert (await control_plane.outcome_of(number + 1)).outcome == "succeeded"
        await control_plane.settled()
    assert sorted(report.server_id for report in control_plane.reports) == sorted(servers)
    stored = (await control_plane.client.jetstream().stream_info("REPORTS")).state.last_seq
    assert stored < len(servers)


async def test_a_failure_is_told_with_its_reason(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        server = server_id()
        await boot(control_plane, server)
        await control_plane.send(order("power_off", server, 3, name="web-fail-power-off"))
        report = await control_plane.outcome_of(3)
        await control_plane.settled()
    assert report.outcome == "failed"
    assert report.fault is not None
    assert report.fault.message


async def test_an_order_of_an_older_generation_is_ignored(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        server = server_id()
        await boot(control_plane, server)
        await control_plane.send(order("pause", server, 9))
        await control_plane.outcome_of(9)
        await control_plane.send(order("power_off", server, 5))
        await control_plane.settled()
        guests = (await control_plane.ask("reconcile"))["result"]["guests"]
    assert [guest["power_state"] for guest in guests] == ["paused"]
    assert not [report for report in control_plane.reports if report.order_id == "5"]


async def test_a_newer_order_cancels_the_running_one(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        server = server_id()
        await boot(control_plane, server)
        await control_plane.send(order("reboot_soft", server, 3, name="web-hang-reboot-soft"))
        await asyncio.sleep(0.3)
        await control_plane.send(order("power_off", server, 4))
        report = await control_plane.outcome_of(4)
        await control_plane.settled()
    assert report.power_state == "shutdown"
    assert not [report for report in control_plane.reports if report.order_id == "3"]


async def test_an_order_ends_at_its_deadline(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        server = server_id()
        await boot(control_plane, server)
        for number, seconds in enumerate((1.5, 10.0, 40.0), 3):
            soon = datetime.now(UTC) + timedelta(seconds=seconds)
            await control_plane.send(order("pause", server, number, name="web-hang-pause", deadline=soon))
            report = await control_plane.outcome_of(number)
            if report.fault is not None and report.fault.code != "expired":  # it was in hand by then
                break
        await control_plane.send(order("pause", server, 9, deadline=datetime.now(UTC) - timedelta(seconds=1)))
        late = await control_plane.outcome_of(9)
    assert report.fault is not None
    assert report.fault.code == "timeout"
    assert late.fault is not None
    assert late.fault.code == "expired"


async def test_a_repeated_order_is_answered_by_the_stored_report(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        server = server_id()
        await boot(control_plane, server)
        await control_plane.send(order("reboot_hard", server, 3))
        await control_plane.outcome_of(3)
        await control_plane.send(order("reboot_hard", server, 3))
        await control_plane.settled()
        console = await control_plane.ask("console_output", server)
    assert console["result"]["output"].count("boots=") == 2


async def test_questions_are_answered(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        server = server_id()
        await boot(control_plane, server)
        output = await control_plane.ask("console_output", server, length=5)
        missing = await control_plane.ask("console_output", server_id())
        nonsense = await control_plane.ask("make_tea")
    assert "CHRONOVA-READY" in output["result"]["output"]
    assert missing["ok"] is False
    assert nonsense["fault"]["code"] == "bad_question"


async def test_an_agent_waits_for_nats_and_outlives_its_restart(
    agent_nats: EmbeddedNats, control_plane: ControlPlane, tmp_path: Path
) -> None:
    agent_nats.stop()
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await asyncio.sleep(0.3)
        agent_nats.restart()
        server = server_id()
        await boot(control_plane, server)
        agent_nats.stop()
        agent_nats.restart()
        await control_plane.send(order("power_off", server, 3))
        assert (await control_plane.outcome_of(3)).power_state == "shutdown"


async def test_many_servers_at_once(control_plane: ControlPlane, tmp_path: Path) -> None:
    servers = [server_id() for _ in range(500)]

    def spawned() -> set[str]:
        return {report.server_id for report in control_plane.reports if report.outcome == "succeeded"}

    async with running_agent(agent_settings(control_plane.url, tmp_path, latency={"pause": 0.02})):
        begun = time.perf_counter()
        await asyncio.gather(*(control_plane.send(order("spawn", server, 1)) for server in servers))
        await control_plane.until(lambda: spawned() == set(servers), "500 spawned")
        seconds = time.perf_counter() - begun
        await control_plane.settled()
    print(f"{500 / seconds:.0f} orders/s, orders and reports made by the same process")
