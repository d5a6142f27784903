"""What is going on while something is killed: every step of the commands at once, a step in sight, many lives, writers.

Each scenario ends with everything settled, and leaves the servers that it made to `delete_all`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from api.v1.params import PARAMS
from domain.server import Server
from domain.workflows import Undo
from tests.faults import proof
from tests.faults.catalogue import CASES, Case, Things, named, params
from tests.faults.client import Client
from tests.faults.deployment import Deployment
from tests.faults.watch import Watch

# Every step that an agent carries out for a command of /v1, on a server with a disk of its own; the deployment does not
# offload by itself.
AGENT_STEPS = tuple(
    case for case in CASES if case.step.order and case.command in PARAMS and not case.offload and not case.volume_backed
)
CREATE_STOP_DELETE = tuple(case for case in AGENT_STEPS if case.command in ("create", "stop", "delete"))
# Every undo that an agent carries out, by the last step of its workflow that can fail on a host: (case, undo).
AGENT_UNDOS = tuple(
    (case, undo) for case in AGENT_STEPS for undo in case.undos()[:1] if undo.order and case.step.undo == undo.name
)
# Steps of the conductor: (command, step).
CONTROL_STEPS = (("create", "schedule"), ("create", "create_ports"), ("delete", "delete_ports"))
# Every undo of the conductor, by one order that fails: (case, undo).
CONTROL_UNDOS = tuple(
    {undo.name: (case, undo) for case in reversed(AGENT_STEPS) for undo in case.undos() if undo.control}.values()
)
LIFE = ("stop", "start", "pause", "unpause", "suspend", "resume", "reboot-hard", "delete")
SIGHT_ATTEMPTS = 12
SIGHT_SECONDS = 0.3
ROUNDS = 8
TOGETHER_SECONDS = 1.5  # less than a step of a server named slow takes
THINGS = Things(image="tiny", bigger_flavor="m1.tiny", network="private")


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
        await asyncio.gather(*map(self.user.shows, made))
        return list(made)

    async def prepared(self, case: Case, name: str) -> tuple[str, str]:
        """A server on which the command of this case is legal, named so, and a volume for it: their ids, or none."""
        volume_id = await self.user.volume(name) if "attach-volume" in (case.command, *case.before) else ""
        if case.command == "create":
            return "", volume_id
        (server_id,) = await self.new("web")
        for command in case.before:
            await self.begin(command, name, server_id, volume_id)
            await self.watch.settled([server_id])
        await self.user.give("update", server_id, {"name": name})
        await self.watch.settled([server_id])
        return server_id, volume_id

    async def begin(self, command: str, name: str, server_id: str, volume_id: str) -> str:
        """Give a command, with the parameters that it needs; the id of its server."""
        if command == "create":
            return await self.user.create(name)
        who = self.admin if command == "shelve-offload" else self.user
        given = params(command, THINGS, self.watch.servers[server_id], volume_id)
        await who.give(command, server_id, given)
        return server_id

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


@dataclass(frozen=True)
class Target:
    """A step or an undo of a workflow in whose middle something is killed; `name` makes a server slow there."""

    case: Case
    step: str
    undoing: bool
    name: str

    def holds(self, server: Server | None) -> bool:
        operation = server.operation if server is not None else None
        return operation is not None and (operation.command, operation.step, operation.undoing) == (
            self.case.command,
            self.step,
            self.undoing,
        )


def slow_step(case: Case) -> Target:
    return Target(case, case.step.name, False, named("slow", case.step))


def slow_undo(case: Case, undo: Undo) -> Target:
    slow = f"-{named('slow', undo)}" if undo.order else ""
    return Target(case, undo.name, True, f"{named('fail', case.step)}{slow}")


async def kill_during_steps(here: Scene, role: str, targets: Iterable[Target]) -> None:
    """One server per target, as many as possible in the middle of it when the kill comes; the others once more."""
    left = list(targets)
    for _ in range(ROUNDS):
        before = await asyncio.gather(*(here.prepared(target.case, target.name) for target in left))
        pairs = list(zip(left, before, strict=True))
        ids = await asyncio.gather(*(here.begin(target.case.command, target.name, *one) for target, one in pairs))

        given = list(zip(left, ids, strict=True))
        await _in_their_steps(here, given)
        left = _missing(here, given)
        await here.kill(role)
        await here.watch.settled(ids)
        proof.assert_each_action_was_done_once(here.watch)
        if not left:
            return
    raise AssertionError(f"not in the middle of it when {role} died, in {ROUNDS} rounds: {left}")


async def _in_their_steps(here: Scene, given: list[tuple[Target, str]]) -> None:
    """Wait until all are in the middle of their steps, or for as long as none that began can have left it.

    On a slow machine all may have left theirs before the last has begun: then it is tried again with other servers.
    """
    with contextlib.suppress(TimeoutError):
        await here.watch.grows_until(lambda: not _missing(here, given), TOGETHER_SECONDS)
    await here.watch.until(
        lambda: len(_missing(here, given)) < len(given) or here.watch.all_idle(one for _, one in given),
        "one at least is in its step, or all are done",
    )


def _missing(here: Scene, given: list[tuple[Target, str]]) -> list[Target]:
    return [target for target, one in given if not target.holds(here.watch.servers.get(one))]


async def kill_in_sight_of(here: Scene, role: str, target: Target, victims: int = 5) -> None:
    """Servers that begin a step of the conductor; killed as soon as the log shows that one has begun it.

    Such a step takes milliseconds, so a kill may come too late: then it is tried again with other servers.
    """
    for _ in range(SIGHT_ATTEMPTS):
        name = target.name or target.step.replace("_", "-")
        before = await asyncio.gather(*(here.prepared(target.case, name) for _ in range(victims)))
        pid, killed = here.deployment.pid(role), asyncio.Event()

        def strike(server: Server, pid: int = pid, killed: asyncio.Event = killed) -> None:
            if target.holds(server) and not killed.is_set():
                os.kill(pid, signal.SIGKILL)
                killed.set()

        here.watch.on_sight = strike
        given = asyncio.gather(*(here.begin(target.case.command, name, *one) for one in before))
        await asyncio.wait_for(killed.wait(), 60)
        in_hand = await _sees(here, target)
        await here.deployment.back(role, pid)
        await here.watch.settled(await given)
        proof.assert_each_action_was_done_once(here.watch)
        if in_hand:
            return
    raise AssertionError(f"no server was at {target.step} when {role} died, in {SIGHT_ATTEMPTS} attempts")


async def _sees(here: Scene, target: Target) -> bool:
    """Whether a server is in the middle of it, as soon as the log of before the kill has been read."""
    with contextlib.suppress(TimeoutError):
        await here.watch.grows_until(
            lambda: any(target.holds(server) for server in here.watch.servers.values()), SIGHT_SECONDS
        )
        return True
    return False


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
