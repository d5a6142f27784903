"""What is going on while something is killed: every step of the commands at once, a step in sight, many lives, writers.

Each scenario ends with everything settled, and leaves the servers that it made to `delete_all`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from domain.server import Server
from tests.faults import proof
from tests.faults.client import Client
from tests.faults.deployment import Deployment
from tests.faults.watch import Watch

# Every step that an agent carries out: (command, step, what has to be done before). The name of a server makes it slow.
AGENT_STEPS = (
    ("create", "create_disk", ()),
    ("create", "config_drive", ()),
    ("create", "spawn", ()),
    ("stop", "power_off", ()),
    ("start", "power_on", ("stop",)),
    ("reboot-soft", "reboot_soft", ()),
    ("reboot-hard", "reboot_hard", ()),
    ("pause", "pause", ()),
    ("unpause", "unpause", ("pause",)),
    ("suspend", "suspend", ()),
    ("resume", "resume", ("suspend",)),
    ("delete", "destroy", ()),
)
# Every step of those commands that the conductor carries out, in the order of their life.
CONTROL_STEPS = (("create", "schedule"), ("create", "create_ports"), ("delete", "delete_ports"))
LIFE = ("stop", "start", "pause", "unpause", "suspend", "resume", "reboot-hard", "delete")
SIGHT_ATTEMPTS = 4


@dataclass
class Scene:
    """A running system with a user, an administrator and somebody who watches the log."""

    deployment: Deployment
    watch: Watch
    user: Client
    admin: Client

    async def kill(self, role: str) -> None:
        """kill -9, and wait until another one is there."""
        await self.deployment.back(role, self.deployment.kill(role))

    async def do(self, command: str, server_id: str) -> None:
        await self.user.give(command, server_id)
        await self.watch.settled([server_id])

    async def new(self, *names: str) -> list[str]:
        """Servers that are there."""
        made = await asyncio.gather(*(self.user.create(name) for name in names))
        await self.watch.settled(made)
        return list(made)

    async def delete_all(self) -> None:
        """Delete what still lives, and see that nothing of it is left."""
        living = [server.id for server in self.watch.servers.values() if not server.deleted]
        await asyncio.gather(*(self.user.give("delete", one) for one in living))
        await self.watch.settled(living)
        await self.user.get("/v1/servers")
        proof.assert_each_action_was_done_once(self.watch)
        await proof.assert_nothing_is_left(self.admin, self.watch, self.deployment)


@asynccontextmanager
async def scene(deployment: Deployment) -> AsyncIterator[Scene]:
    async with (
        Watch.open(deployment) as watch,
        Client.open(deployment) as user,
        Client.open(deployment, "chronova-admin") as admin,
    ):
        await admin.lift_quotas()
        yield Scene(deployment, watch, user, admin)


async def kill_during_every_agent_step(here: Scene, role: str) -> None:
    """One server per step, each in the middle of its step when the kill comes."""

    async def prepared(command: str, step: str, before: tuple[str, ...]) -> str:
        name = f"slow-{step.replace('_', '-')}"
        if command == "create":
            return name
        (server_id,) = await here.new(name)
        for one in before:
            await here.do(one, server_id)
        return server_id

    whats = await asyncio.gather(*(prepared(*one) for one in AGENT_STEPS))
    given = []
    for (command, _, _), what in zip(AGENT_STEPS, whats, strict=True):
        given.append(here.user.create(what) if command == "create" else here.user.give(command, what))
    answers = await asyncio.gather(*given)
    ids = [answer if isinstance(answer, str) else str(answer["server_id"]) for answer in answers]
    steps = dict(zip(ids, (step for _, step, _ in AGENT_STEPS), strict=True))
    await here.watch.until(
        lambda: all(here.watch.at_step(one, step) for one, step in steps.items()), "all are in their step at once"
    )
    await here.kill(role)
    await here.watch.settled(ids)
    proof.assert_each_action_was_done_once(here.watch)


async def kill_in_sight_of(here: Scene, role: str, command: str, step: str, victims: int = 5) -> None:
    """Servers that begin a step of the conductor; killed as soon as the log shows that one has begun it.

    Such a step takes milliseconds, so a kill may come too late: then it is tried again with other servers.
    """
    for _ in range(SIGHT_ATTEMPTS):
        names = [f"{step}-{number}" for number in range(victims)]
        ids = [] if command == "create" else await here.new(*names)
        pid, killed = here.deployment.pid(role), asyncio.Event()

        def strike(server: Server, pid: int = pid, killed: asyncio.Event = killed) -> None:
            operation = server.operation
            if operation is not None and (operation.command, operation.step) == (command, step) and not killed.is_set():
                os.kill(pid, signal.SIGKILL)
                killed.set()

        here.watch.on_sight = strike
        if command == "create":
            given: Any = asyncio.gather(*(here.user.create(name) for name in names))
        else:
            given = asyncio.gather(*(here.user.give(command, one) for one in ids))
        await asyncio.wait_for(killed.wait(), 30)
        in_hand = any(here.watch.at_step(one, step) for one in here.watch.servers)
        await here.deployment.back(role, pid)
        answers = await given
        ids = ids or answers
        await here.watch.settled(ids)
        proof.assert_each_action_was_done_once(here.watch)
        if in_hand:
            return
    raise AssertionError(f"no server was at {step} when {role} died, in {SIGHT_ATTEMPTS} attempts")


async def kill_during_many_lives(here: Scene, role: str, *, lives: int = 8, kills: int = 2) -> None:
    """Servers go through all their commands while a role is killed again and again, whatever they are at."""

    async def live(name: str) -> None:
        server_id = (await here.new(name))[0]
        for command in LIFE:
            await here.do(command, server_id)

    living = asyncio.gather(*(live(f"life-{number}") for number in range(lives)))
    try:
        for number in range(kills):
            await asyncio.sleep(0.4 + 0.35 * number)
            if living.done():
                break
            await here.kill(role)
        await living
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
    proof.assert_each_action_was_done_once(here.watch)


async def kill_under_writers(here: Scene, role: str, *, kills: int = 2) -> None:
    """Nothing that was answered 202 is missing or doubled; what was not answered is done once when it is repeated."""
    servers = await here.new("written-1", "written-2", "written-3")
    stop = asyncio.Event()
    acknowledged: list[tuple[str, dict[str, Any]]] = []
    keys: list[str] = []
    names: list[str] = []

    async def careless(server_id: str) -> None:
        """Does not repeat what was not answered."""
        command = "lock"
        while not stop.is_set():
            body = {"type": command, "server_id": server_id, "params": {}}
            answer = await here.user.once("POST", "/v1/commands", body)
            if answer is None:
                await asyncio.sleep(0.02)
                continue
            assert answer.status_code == 202, answer.text
            if answer.json()["changed"]:
                acknowledged.append((server_id, answer.json()))
            command = "unlock" if command == "lock" else "lock"

    async def careful(server_id: str) -> None:
        command = "lock"
        while not stop.is_set():
            key = str(uuid4())
            body = {"type": command, "server_id": server_id, "params": {}}
            answer = await here.user.ask("POST", "/v1/commands", body, key)
            acknowledged.append((server_id, answer.json()))
            keys.append(key)
            command = "unlock" if command == "lock" else "lock"

    async def creator() -> None:
        while not stop.is_set():
            name = f"new-{len(names)}"
            names.append(name)
            await here.user.create(name)
            await asyncio.sleep(0.1)

    writers = asyncio.gather(careless(servers[0]), careless(servers[1]), careful(servers[2]), creator())
    try:
        for _ in range(kills):
            await asyncio.sleep(0.7)
            await here.kill(role)
        await here.user.get("/v1/servers")
        await asyncio.sleep(0.5)
    finally:
        stop.set()
        await writers
    await here.watch.settled(here.watch.servers)
    for server_id, answer in acknowledged:
        found = [one for one in here.watch.commits[server_id] if one.commit.meta.request_id == answer["request_id"]]
        assert [one.position for one in found] == [answer["position"]], answer
    metas = [one.commit.meta for one in here.watch.commits[servers[2]]]
    assert sorted(meta.idempotency_key for meta in metas if meta.idempotency_key in keys) == sorted(keys)
    made = [server.name for server in here.watch.servers.values() if server.name in names]
    assert sorted(made) == sorted(names)
    proof.assert_each_action_was_done_once(here.watch)
    for server_id in servers:
        if here.watch.servers[server_id].locked_by:
            await here.user.give("unlock", server_id)
