"""An agent process: one or several hosts on one connection, one journal and one reporter, until it is told to stop.

`serve` returns after `stop` is set and everything in hand is told or safely kept, within `DRAIN_SECONDS`. It survives
NATS and the control plane being away. It raises what only a person can mend: a driver that this machine can not run
(OrderFailed), a journal that can not be opened (JournalFailed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from hypervisor_agent.agent import EXTEND_SECONDS, HostAgent
from hypervisor_agent.driver import make_driver
from hypervisor_agent.journal import Journal
from hypervisor_agent.link import Link, NatsAccess
from hypervisor_agent.reporter import Reporter

HEARTBEAT_SECONDS = 3.0
RECONCILE_SECONDS = 30.0
DRAIN_SECONDS = 8.0
REPORT_SECONDS = 1.0
SENT_TOGETHER = 32  # short messages, which cost little more than one when they are written and read together

log = structlog.get_logger("agent")


@dataclass(frozen=True)
class AgentSettings:
    """`data_dir` is the directory of all hosts of this process; each has a directory of its own below it."""

    hosts: tuple[str, ...]
    driver: str
    data_dir: Path
    nats: NatsAccess
    driver_options: Mapping[str, Any] = field(default_factory=dict)
    reconcile_seconds: float = RECONCILE_SECONDS
    share: int = 1  # how many hosts are on this machine together, of this process and others


async def serve(settings: AgentSettings, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
    """Serve all hosts until `stop` is set. `ready` is called when all take orders."""
    link = Link(settings.nats)
    connecting = asyncio.ensure_future(link.open())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not connecting.done():
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        return
    connecting.result()
    single = len(settings.hosts) == 1
    journal = Journal.open(settings.data_dir / (settings.hosts[0] if single else "") / "journal.db")
    reporter = Reporter(link)
    agents: list[HostAgent] = []
    rounds: list[asyncio.Task[None]] = []
    try:
        reporter.start()
        for host in settings.hosts:
            driver = make_driver(settings.driver, host, settings.data_dir / host, settings.driver_options)
            agent = HostAgent(host, driver, link, journal, reporter, settings.share)
            agents.append(agent)
            await agent.start()
        log.info("serving", hosts=len(agents), first=settings.hosts[0], driver=settings.driver)
        ready()
        rounds = [
            asyncio.create_task(_round(agents, HEARTBEAT_SECONDS, HostAgent.heartbeat, SENT_TOGETHER)),
            asyncio.create_task(_round(agents, settings.reconcile_seconds, HostAgent.reconcile)),
            asyncio.create_task(_round(agents, EXTEND_SECONDS, HostAgent.extend, SENT_TOGETHER)),
        ]
        ended, _ = await asyncio.wait({stopping, *rounds}, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        stopping.cancel()
        for task in rounds:
            task.cancel()
        await asyncio.gather(*rounds, *(agent.stop(DRAIN_SECONDS) for agent in agents), return_exceptions=True)
        await reporter.close(REPORT_SECONDS)
        await link.close()
        journal.close()


async def _round(agents: list[HostAgent], seconds: float, visit: Any, together: int = 1) -> None:
    """Visit every agent once in `seconds`, a few at a time, spread evenly: thousands of hosts are a steady trickle."""
    while True:
        for start in range(0, len(agents), together):
            some = agents[start : start + together]
            for agent in some:
                await visit(agent)
            await asyncio.sleep(seconds * len(some) / len(agents))
