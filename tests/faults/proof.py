"""What has to hold after any fault: everything once, everything ended, nothing left, all derived from the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

from domain.resources import Address, Image, Volume, decode
from domain.server import ServerEvent
from tests.faults.client import Client
from tests.faults.deployment import Deployment, outcome
from tests.faults.watch import Watch

FAILS = "fail"  # in a server's name
RESET = "reset-"  # in the name of one whose actions are ended by a reset
RETRY = "undo"  # the mark's step: it begins with the first undo, not by itself
SWEPT_SECONDS = 120.0
ENDS = ("succeeded", "failed", "reverted", "cancelled")


def assert_each_action_was_done_once(watch: Watch) -> None:
    """Accepted once, ended once and well, each step begun and ended once; nothing goes on and no state says so.

    Of a server whose name makes the hypervisor fail an order, what ended need not have ended well.
    """
    for server_id, server in watch.servers.items():
        assert (server.operation, server.task_state) == (None, None), server.name
        actions: dict[str, list[ServerEvent]] = {}
        for event in watch.events(server_id):
            if event.phase != "observed":
                actions.setdefault(event.body.request_id, []).append(event)
        for events in actions.values():
            _assert_once(server.name, events)


def _assert_once(name: str, events: list[ServerEvent]) -> None:
    what = (name, events[0].type)
    phases = Counter(event.phase for event in events)
    assert phases["accepted"] == 1, (what, phases)
    assert sum(phases[end] for end in ENDS) == 1, (what, phases)
    if RESET in name and phases["cancelled"]:
        return
    begun, ended = steps_of(events, "step_started"), steps_of(events, "step_finished")
    assert begun == ended, (what, begun, ended)
    if FAILS not in name:
        assert phases["succeeded"] == 1, (what, phases)
        assert set(begun.values()) <= {1}, (what, begun)


def steps_of(events: list[ServerEvent], phase: str) -> Counter[tuple[str, bool]]:
    """The steps and undos, but not how far they are, nor the mark that another host is tried."""
    told = [event.body for event in events if event.phase == phase and "progress" not in event.body.details]
    return Counter((body.step, body.undo) for body in told if body.step != RETRY)


def assert_guests_are_as_the_log_says(watch: Watch, deployment: Deployment) -> None:
    """What is plugged into every guest, when nothing goes on."""
    found = guests(deployment.data)
    for server in watch.servers.values():
        guest = found.get(server.id)
        if guest is None:  # gone, or destroyed by the delete that a reset ended
            assert not server.guest_exists or server.power_state == "nostate", server.name
        if guest is not None and guest.get("defined"):
            assert set(guest.get("volumes", {})) == {one.volume_id for one in server.volumes}, server.name
            assert set(guest.get("nics", {})) == {one.port_id for one in server.interfaces}, server.name


async def assert_nothing_is_left(admin: Client, watch: Watch, deployment: Deployment) -> None:
    """Of servers that are deleted (all of them): ports, addresses, room, guests, volumes and images in work."""
    assert {server.vm_state for server in watch.servers.values()} <= {"deleted"}
    assert guests(deployment.data) == {}
    deadline = time.monotonic() + SWEPT_SECONDS
    while left := await unclaimed(watch) or await shown(admin):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.2)


async def shown(admin: Client) -> list[Any]:
    """Ports, and hosts with something on them, as the read model has them: it follows the log a moment later."""
    ports: list[Any] = (await admin.get("/network/v2.0/ports"))["ports"]
    hosts = (await admin.get("/v1/hosts"))["hosts"]
    return [*ports, *(host for host in hosts if any(host["used"].values()))]


async def unclaimed(watch: Watch) -> list[Address | Volume | Image]:
    """Addresses of ports, volumes kept for somebody, images not whole: what died with its command waits to be swept."""
    volumes = [cast(Volume, decode("volume", one.commit.state)) async for one in watch.log.scan_last("volume")]
    images = [cast(Image, decode("image", one.commit.state)) async for one in watch.log.scan_last("image")]
    addresses = [cast(Address, decode("address", one.commit.state)) async for one in watch.log.scan_last("address")]
    return [
        *(one for one in addresses if one.port_id is not None),
        *(one for one in volumes if not one.deleted and (one.status != "available" or one.attachments)),
        *(one for one in images if not one.deleted and one.status != "active"),
    ]


def guests(data: Path) -> dict[str, Any]:
    """What the simulated hypervisors have, from their files: {server id: guest}."""
    found: dict[str, Any] = {}
    for file in data.glob("*/*/simulated.jsonl"):
        here: dict[str, Any] = {}
        for line in file.read_bytes().split(b"\n")[:-1]:
            one = json.loads(line)
            here[one["server_id"]] = one.get("guest")
        for server_id, guest in here.items():
            if guest is not None:
                assert server_id not in found, f"server {server_id} is on two hosts"
                found[server_id] = guest
    return found


def assert_log_and_read_models_hold(deployment: Deployment) -> None:
    """The proofs that an operator has: `chronova replay --verify` and `chronova audit verify`."""
    commands = [deployment.chronova("replay", "--verify"), deployment.chronova("audit", "verify")]
    for code, output in [outcome(command) for command in commands]:
        assert code == 0, output
