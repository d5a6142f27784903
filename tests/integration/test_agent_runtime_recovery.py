"""What an agent process owes its successor: killed at any instant, nothing is lost and nothing happens twice."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from domain.orders import Report
from eventlog.nats_server import EmbeddedNats
from hypervisor_agent.journal import Journal
from hypervisor_agent.link import Link
from tests.agent_fixtures import HOST, PASSWORD, ControlPlane, agent_settings, order, running_agent, server_id

# An agent as a process of its own, so that it can be killed.
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from hypervisor_agent.link import NatsAccess
from hypervisor_agent.process import AgentSettings, serve
url, data, host, password, options = sys.argv[1:]
settings = AgentSettings((host,), "simulated", Path(data), NatsAccess([url], host, host, password), json.loads(options))
asyncio.run(serve(settings, asyncio.Event()))
"""


async def start_process(url: str, data_dir: Path, **options: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, url, str(data_dir), HOST, PASSWORD, json.dumps(options)
    )


async def kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


def begun(journal: Journal, server_id: str) -> int:
    """The generation that the agent's journal says is, or was, carried out."""
    entry = journal.of(HOST).entry(server_id)
    return entry.generation if entry is not None else 0


async def test_an_order_interrupted_by_a_kill_is_done_once_by_the_next_process(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    server = server_id()
    slow = await start_process(control_plane.url, tmp_path, latency={"reboot_hard": 60})
    await control_plane.send(order("spawn", server, 1))
    await control_plane.outcome_of(1)
    await control_plane.send(order("reboot_hard", server, 2))
    journal = Journal.open(tmp_path / HOST / "journal.db")
    await control_plane.until(lambda: begun(journal, server) == 2, "the order is in hand")
    journal.close()
    await kill(slow)
    # The consumer redelivers after its ack_wait; a newer publish of the same order stands for it here.
    await control_plane.send(order("reboot_hard", server, 2))
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        assert (await control_plane.outcome_of(2)).outcome == "succeeded"
        console = (await control_plane.ask("console_output", server))["result"]["output"]
    assert console.count("boots=") == console.count("boots=1") + console.count("boots=2") == 2
    assert len({report.id for report in control_plane.reports if report.order_id == "2"}) == 1


async def test_reports_of_a_time_without_nats_are_sent_by_the_next_process(
    agent_nats: EmbeddedNats, control_plane: ControlPlane, tmp_path: Path
) -> None:
    server = server_id()
    process = await start_process(control_plane.url, tmp_path, latency={"pause": 3.0})
    await control_plane.send(order("spawn", server, 1))
    await control_plane.outcome_of(1)
    await control_plane.send(order("pause", server, 2))
    journal = Journal.open(tmp_path / HOST / "journal.db")
    await control_plane.until(lambda: begun(journal, server) == 2, "the order is in hand")
    process.send_signal(signal.SIGSTOP)  # it must not be done before NATS is away
    agent_nats.stop()
    process.send_signal(signal.SIGCONT)
    await control_plane.until(lambda: journal.of(HOST).unsent, "the report is in the journal")
    journal.close()
    await kill(process)
    agent_nats.restart()
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        report = await control_plane.outcome_of(2)
    assert (report.outcome, report.power_state) == ("succeeded", "paused")


async def test_changes_made_while_no_agent_ran_are_observed(control_plane: ControlPlane, tmp_path: Path) -> None:
    kept, lost = server_id(), server_id()
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        for number, server in enumerate((kept, lost), start=1):
            await control_plane.send(order("spawn", server, number))
            await control_plane.outcome_of(number)
        await control_plane.settled()
    guests = tmp_path / HOST / "simulated.jsonl"
    lines = [line for line in guests.read_text().splitlines() if lost not in line]
    guests.write_text("\n".join(line.replace('"running"', '"shutdown"') for line in lines) + "\n")

    def observed() -> dict[str, Report]:
        """By their ids: the next agent repeats a report of which this one did not hear that it had arrived."""
        return {report.id: report for report in control_plane.reports if report.outcome == "observed"}

    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await control_plane.until(lambda: len(observed()) == 2, "both changes are told")
        await control_plane.ask("reconcile")
    async with running_agent(agent_settings(control_plane.url, tmp_path)):
        await control_plane.ask_until_up()
    told = sorted((report.server_id, report.power_state) for report in observed().values())
    assert told == sorted([(kept, "shutdown"), (lost, "nostate")])


async def test_an_agent_may_not_act_for_another_host(control_plane: ControlPlane, tmp_path: Path) -> None:
    settings = agent_settings(control_plane.url, tmp_path)
    async with running_agent(settings):
        await control_plane.ask_until_up()
        link = Link(settings.nats)
        await link.open()
        forged = Report("r", "host-2", server_id(), "observed", 1, power_state="crashed")
        await link.send("reports.host-2.x", msgspec.json.encode(forged))
        await link.send("orders.host-1.x", msgspec.json.encode(order("destroy", "x", 99)))
        await asyncio.sleep(0.3)
        await link.close()
    assert not [report for report in control_plane.reports if report.host == "host-2"]
    info = await control_plane.client.jetstream().stream_info("ORDERS")
    assert info.state.messages == 0
