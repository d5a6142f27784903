"""The embedded server: where it is found, how it lives and dies, and what an agent may do on it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import ConsumerConfig, RetentionPolicy

from eventlog.log import EventLog
from eventlog.nats_server import (
    EmbeddedNats,
    NatsServerFailed,
    NatsServerMissing,
    NatsUser,
    agent_user,
    agents_user,
    find_nats_server,
)
from tests.eventlog_samples import append, new_id, until_it_listens
from tests.running import is_alive, until

PROJECT = Path(__file__).resolve().parents[2]


def fake_server(directory: Path, version: str) -> Path:
    directory.mkdir()
    program = directory / "nats-server"
    program.write_text(f"#!/bin/sh\necho nats-server: v{version}\n")
    program.chmod(0o755)
    return program


def test_the_server_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, on_path, extra = (fake_server(tmp_path / name, "2.10.1") for name in ("named", "path", "extra"))
    monkeypatch.setenv("PATH", f"{on_path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("NATS_SERVER", str(named))
    assert find_nats_server([extra.parent]) == named
    monkeypatch.delenv("NATS_SERVER")
    assert find_nats_server([extra.parent]) == on_path
    fake_server(tmp_path / "old", "2.9.10")
    monkeypatch.setenv("PATH", f"{tmp_path / 'old'}:/usr/bin:/bin")
    assert find_nats_server([extra.parent]) == extra


def test_without_a_new_enough_server_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_server(tmp_path / "old", "2.9.10")
    monkeypatch.setattr("eventlog.nats_server.PROJECT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'old'}:/usr/bin:/bin")
    with pytest.raises(NatsServerMissing, match=r"is version 2\.9\.10\): run `tools/get-nats-server\.sh"):
        find_nats_server()


def test_a_server_keeps_its_port_its_secrets_and_its_place(tmp_path: Path) -> None:
    with EmbeddedNats.start(tmp_path, sync_interval=None, auth=[NatsUser("control", "secret")]) as server:
        port = server.port
        config = tmp_path / "nats" / "nats-server.conf"
        assert config.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "nats").stat().st_mode & 0o777 == 0o700
        assert server.url.startswith("nats://127.0.0.1:")
        assert server.poll() is None
        with pytest.raises(NatsServerFailed, match="running already"):
            server.restart()
    assert server.poll() is not None
    for _ in range(5):
        with EmbeddedNats.start(tmp_path, sync_interval=None) as server:
            before, port = port, server.port
        if port == before:
            break
    else:
        raise AssertionError("somebody took the port each time")
    with socket.create_server(("127.0.0.1", port)), EmbeddedNats.start(tmp_path, sync_interval=None) as server:
        assert server.port != port


def test_a_server_that_can_not_start_says_why(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(NatsServerFailed, match="address already in use"),
    ):
        EmbeddedNats.start(tmp_path, port=taken.getsockname()[1])


def test_two_servers_never_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedNats.start(tmp_path, sync_interval=None) as server:
        with monkeypatch.context() as hurried:
            hurried.setattr("eventlog.nats_server.STOP_SECONDS", 0.2)  # an end takes as long as the machine needs
            with pytest.raises(NatsServerFailed, match="another nats-server uses"):
                EmbeddedNats.start(tmp_path, sync_interval=None)
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: server.poll() is not None, "the killed one has ended")
        with EmbeddedNats.start(tmp_path, sync_interval=None) as next_server:
            assert next_server.poll() is None


def test_a_killed_server_is_started_again_as_soon_as_its_end_is_seen(tmp_path: Path) -> None:
    with EmbeddedNats.start(tmp_path, sync_interval=None) as server:
        for _ in range(8):
            life, end = os.pidfd_open(server.pid), select.poll()
            end.register(life, select.POLLIN)
            os.kill(server.pid, signal.SIGKILL)
            assert end.poll(60_000)
            os.close(life)
            server.restart()  # the thread that waits for the killed one may not have run yet
            assert server.poll() is None


async def test_the_log_is_the_same_with_and_without_users(tmp_path: Path) -> None:
    with EmbeddedNats.start(tmp_path, sync_interval=None) as server:
        log = await EventLog.open(server.url)
        await append(log, new_id(), None)
        await log.close()
    with EmbeddedNats.start(tmp_path, sync_interval=None, auth=[NatsUser("control", "secret")]) as server:
        log = await EventLog.open(server.url, user="control", password="secret")
        assert await log.last_position() == 1
        await log.close()


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_dies_with_its_parent(tmp_path: Path, sig: signal.Signals) -> None:
    program = (
        "import sys, time; from eventlog.nats_server import EmbeddedNats; "
        "print(EmbeddedNats.start(sys.argv[1]).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, tmp_path], cwd=PROJECT, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(sig)
        parent.wait(60)
        until(lambda: not is_alive(pid), "nats-server ended with its parent")


@pytest.mark.parametrize(("name", "password"), [("a b", "x"), ("a", ""), ("a", "$2a$x"), ("a", 'x\n"')])
def test_users_that_the_configuration_can_not_hold_are_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(ValueError, match="NATS user"):
        EmbeddedNats.start(tmp_path, auth=[NatsUser(name, password)])


def test_a_host_name_is_a_subject_token() -> None:
    with pytest.raises(ValueError, match="no host can be named"):
        agent_user("host.>", "secret")


@dataclass
class Fleet:
    """A server with the control plane and two agents connected; `violations` is what the server refused to host-1."""

    control: EventLog
    one: Client
    two: Client
    violations: list[str] = field(default_factory=list)

    async def was_refused(self, what: str) -> None:
        """Wait until the server has told host-1 that it may not publish, or subscribe to, something."""
        async with asyncio.timeout(60):
            while not any(f"permissions violation for {what}" in one.lower() for one in self.violations):
                await asyncio.sleep(0.01)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    users = [NatsUser("control", "c"), agent_user("host-1", "one"), agent_user("host-2", "two")]
    with EmbeddedNats.start(tmp_path, sync_interval=None, auth=users) as server:
        control = await EventLog.open(server.url, user="control", password="c")
        await control.js.add_stream(name="ORDERS", subjects=["orders.>"], retention=RetentionPolicy.WORK_QUEUE)
        await control.js.add_stream(name="REPORTS", subjects=["reports.>"])
        violations: list[str] = []

        async def refused(error: Exception) -> None:
            violations.append(str(error))

        agents = []
        for host, password in (("host-1", "one"), ("host-2", "two")):
            await control.js.add_consumer(
                "ORDERS", ConsumerConfig(durable_name=host, filter_subject=f"orders.{host}.>")
            )
            agents.append(
                await nats.connect(
                    server.url, user=host, password=password, inbox_prefix=f"_INBOX.{host}", error_cb=refused
                )
            )
        yield Fleet(control, agents[0], agents[1], violations)
        for agent in agents:
            await agent.close()
        await control.close()


async def test_an_agent_does_its_work(fleet: Fleet) -> None:
    await fleet.control.js.publish("orders.host-1.a", b"order")
    await fleet.control.js.publish("orders.host-2.b", b"other")
    orders = await fleet.one.jetstream().pull_subscribe_bind("host-1", "ORDERS")
    order = (await orders.fetch(1, timeout=60))[0]
    assert order.data == b"order"
    await order.ack_sync(timeout=60)
    assert (await fleet.one.jetstream().publish("reports.host-1.a", b"done")).seq == 1

    beats = await fleet.control.nc.subscribe("heartbeat.*")
    await until_it_listens(fleet.control.nc)
    await fleet.one.publish("heartbeat.host-1", b"alive")
    assert (await beats.next_msg(timeout=60)).data == b"alive"

    async def answer(message: Msg) -> None:
        await message.respond(b"console")

    await fleet.one.subscribe("agent.host-1.>", cb=answer)
    await until_it_listens(fleet.one)
    assert (await fleet.control.nc.request("agent.host-1.console", b"", timeout=60)).data == b"console"
    assert fleet.violations == []


@pytest.mark.parametrize(
    "subject",
    [
        "log.server.a",
        "reports.host-2.a",
        "heartbeat.host-2",
        "orders.host-1.a",
        "agent.host-2.x",
        "$JS.API.STREAM.INFO.CHRONOVA_LOG",
        "$JS.API.STREAM.MSG.GET.CHRONOVA_LOG",
        "$JS.API.DIRECT.GET.CHRONOVA_LOG.log.server.a",
        "$JS.API.STREAM.DELETE.CHRONOVA_LOG",
        "$JS.API.CONSUMER.CREATE.CHRONOVA_LOG",
        "$JS.API.CONSUMER.MSG.NEXT.ORDERS.host-2",
        "$JS.ACK.ORDERS.host-2.1.1.1.1.0",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_an_agent_can_not_send_to_what_is_not_its_own(fleet: Fleet, subject: str) -> None:
    with pytest.raises((NatsTimeoutError, NoRespondersError)):
        await fleet.one.request(subject, b"{}", timeout=0.1)
    await fleet.was_refused("publish")
    assert await fleet.control.last_position() == 0


@pytest.mark.parametrize("subject", [">", "log.>", "reports.>", "orders.>", "_INBOX.>", "_INBOX.host-2.>", "agent.>"])
async def test_an_agent_can_not_listen_to_what_is_not_its_own(fleet: Fleet, subject: str) -> None:
    heard = await fleet.one.subscribe(subject)
    await until_it_listens(fleet.one)
    await append(fleet.control, new_id(), None)
    with pytest.raises(NatsTimeoutError):
        await heard.next_msg(timeout=0.1)
    await fleet.was_refused("subscription")


@pytest.mark.parametrize("reply", ["log.server.a", "reports.host-2.a", "$JS.API.STREAM.DELETE.CHRONOVA_LOG"])
async def test_the_server_publishes_nothing_elsewhere_on_behalf_of_an_agent(fleet: Fleet, reply: str) -> None:
    """The subject that an answer goes to is not checked against permissions: the accounts have to hold."""
    await append(fleet.control, new_id(), None)
    await fleet.control.js.publish("orders.host-1.a", b"order")
    await fleet.one.publish("reports.host-1.a", b"report", reply=reply)
    await fleet.one.publish("$JS.API.CONSUMER.MSG.NEXT.ORDERS.host-1", b'{"batch":1,"no_wait":true}', reply=reply)
    # The stream takes messages in order: with this one acknowledged, the one above is in it as well.
    await fleet.one.jetstream().publish("reports.host-1.a", b"next", timeout=60)
    await asyncio.sleep(0.2)  # in which the server would publish elsewhere
    assert await fleet.control.last_position() == 1
    stored = await fleet.control.js.stream_info("REPORTS", subjects_filter=">")
    assert stored.state.subjects == {"reports.host-1.a": 2}


async def test_one_process_may_be_the_agent_of_many_hosts(tmp_path: Path) -> None:
    hosts = [f"host-{number}" for number in range(1, 101)]
    users = [NatsUser("control", "c"), agents_user("agents", "a", hosts), agent_user("lone", "b")]
    with EmbeddedNats.start(tmp_path, sync_interval=None, auth=users) as server:
        control = await EventLog.open(server.url, user="control", password="c")
        await control.js.add_stream(name="REPORTS", subjects=["reports.>"])
        agents = await nats.connect(server.url, user="agents", password="a", inbox_prefix="_INBOX.agents")
        await agents.publish("reports.host-1.a", b"done", reply=f"{control.prefix}.server.a")
        await agents.publish("reports.host-1.a", b"done", reply="reports.lone.a")
        # The stream takes messages in order: with these acknowledged, the answers to those above are out as well.
        for host in (hosts[0], hosts[-1]):
            assert (await agents.jetstream().publish(f"reports.{host}.a", b"done")).stream == "REPORTS"
        stored = await control.js.stream_info("REPORTS", subjects_filter=">")
        assert stored.state.subjects == {"reports.host-1.a": 3, "reports.host-100.a": 1}
        assert await control.last_position() == 0
        await agents.close()
        await control.close()
