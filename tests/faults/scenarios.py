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

from msgspec.json import encode

from api.v1.params import PARAMS
from domain.decide.accepting import PLUGGING
from domain.orders import PowerStateName, Report
from domain.server import Server
from domain.workflows import Undo
from tests.faults import proof
from tests.faults.catalogue import CASES, Case, Things, named, params
from tests.faults.client import Client
from tests.faults.deployment import Deployment
from tests.faults.watch import Watch

# Commands that are given by other means than /v1: another API, or what a hypervisor shows.
OTHERWISE = ("power-sync", "swap-volume", "extend-volume")
# Every step that an agent carries out for a command, on a server with its own disk; nothing is offloaded by itself.
AGENT_STEPS = tuple(
    case
    for case in CASES
    if case.step.order and case.command in (*PARAMS, *OTHERWISE) and not case.offload and not case.volume_backed
)
USERS_STEPS = tuple(case for case in AGENT_STEPS if case.command in PARAMS)
CREATE_STOP_DELETE = tuple(case for case in AGENT_STEPS if case.command in ("create", "stop", "delete"))
# Every undo that an agent carries out, by the last step of its workflow that can fail on a host: (case, undo). A killed
# agent forgets that it has failed an order once, so an undo by the same order as its step would fail too.
AGENT_UNDOS = tuple(
    (case, undo)
    for case in AGENT_STEPS
    for undo in case.undos()[:1]
    if undo.order and case.step.undo == undo.name and undo.order != case.step.order
)
# Steps of the conductor: (command, step).
CONTROL_STEPS = (("create", "schedule"), ("create", "create_ports"), ("delete", "delete_ports"))
# Every undo of the conductor, by one order that fails: (case, undo).
CONTROL_UNDOS = tuple(
    {undo.name: (case, undo) for case in reversed(USERS_STEPS) for undo in case.undos() if undo.control}.values()
)
# What is reset in its middle: all that plugs, and one of each other kind.
RESETS = tuple(
    case
    for case in AGENT_STEPS
    if case.command in PLUGGING
    or (case.command, case.step.name)
    in (("create", "spawn"), ("stop", "power_off"), ("create-image", "snapshot"), ("delete", "destroy"))
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
        await asyncio.gather(*(self.user.shows(f"/v1/servers/{one}") for one in made))
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
        if command in OTHERWISE:
            await self._otherwise(command, name, server_id, volume_id)
            return server_id
        who = self.admin if command == "shelve-offload" else self.user
        given = params(command, THINGS, self.watch.servers[server_id], volume_id)
        await who.give(command, server_id, given)
        return server_id

    async def _otherwise(self, command: str, name: str, server_id: str, volume_id: str) -> None:
        if command == "power-sync":
            await self.seen(server_id, "running")
        elif command == "swap-volume":
            body = {"volumeAttachment": {"volumeId": await self.user.volume(name)}}
            attachment = f"/compute/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}"
            await self.admin.ask("PUT", attachment, body)
        else:
            await self.user.ask("POST", f"/volume/v3/volumes/{volume_id}/action", {"os-extend": {"new_size": 2}})

    async def seen(self, server_id: str, power_state: PowerStateName) -> None:
        """The server's hypervisor shows this by itself, and its agent's report is kept."""
        server = self.watch.servers[server_id]
        report = Report(
            uuid4().hex, str(server.host), server.id, "observed", server.generation, power_state=power_state, reason="?"
        )
        await self.watch.log.js.publish(f"reports.{server.host}.{server.id}", encode(report))

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


async def kill_after_resets(here: Scene, role: str) -> None:
    """Servers in the middle of their steps, all reset; killed at once, while that is being settled."""
    targets = [slow_step(case) for case in RESETS]
    names = [f"{proof.RESET}{target.name}" for target in targets]
    before = await asyncio.gather(*map(here.prepared, (target.case for target in targets), names))
    pairs = list(zip(targets, names, before, strict=True))
    ids = await asyncio.gather(*(here.begin(target.case.command, name, *one) for target, name, one in pairs))
    await _in_their_steps(here, list(zip(targets, ids, strict=True)))
    await asyncio.gather(*(here.admin.give("reset-state", one, {"state": "active"}) for one in ids))
    await here.kill(role)
    servers = here.watch.servers
    await here.watch.until(
        lambda: all(servers[one].operation is None and not servers[one].owed for one in ids), "all is settled"
    )
    proof.assert_each_action_was_done_once(here.watch)
    proof.assert_guests_are_as_the_log_says(here.watch, here.deployment)


async def kill_while_it_is_seen(here: Scene, role: str) -> None:
    """Guests go off by themselves while a process dies: their servers are stopped, with the reason."""
    ids = await here.new("seen-1", "seen-2", "seen-3")
    await asyncio.gather(*(here.seen(one, "shutdown") for one in ids[:2]))
    await here.kill(role)
    await here.seen(ids[2], "shutdown")
    await here.watch.until(lambda: all(here.watch.servers[one].vm_state == "stopped" for one in ids), "all are stopped")
    for one in ids:
        assert [event.body.message for event in here.watch.events(one) if event.phase == "observed"] == ["?"]


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
