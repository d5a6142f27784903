"""A whole system in one process whose steps a test can make fail, repeat, hang or come late; and what it leaves behind.

One system serves many tests: `Lab.at_rest` compares what there is with what there was before the test.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import msgspec
from nats.aio.msg import Msg

from api.auth import Tokens, load_keys
from api.services import ApiSettings, Services
from api.v1.carry import carry_out
from api.volumes_kept import kept
from commands import disks
from commands.audit import MachineAudit
from commands.steps import Steps
from domain import volumes
from domain.decide import StepOutcome
from domain.orders import Fault, Report
from domain.resources import Image, Volume, VolumeSnapshot
from domain.server import BlockDevice, Server, ServerEvent, decode_event
from eventlog.envelope import Actor
from eventlog.nats_server import EmbeddedNats
from tests.faults.catalogue import Case, Things, params
from tests.faults.proof import ENDS, guests, steps_of
from tests.system import ADMIN, WAIT_SECONDS, System, context, new_server

OWNER = Actor(user_id="alice", user_name="alice", project_id="demo", roles=("member", "admin"))


@dataclass
class Faults:
    """What happens to the conductor's own steps. `hanging` stops at a control (undone or not) until `go` is set."""

    failing: str = ""
    twice: bool = False
    hanging: str = ""
    command: str = ""  # of which a step hangs
    hangs_undo: bool = False
    before_it: bool = False  # stop before the step is done instead of when it is done but not noted
    forgets: bool = False  # what came too late is not given back, as if its conductor had died with it
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


class FaultySteps(Steps):
    """The conductor's own steps, with faults."""

    faults: Faults

    async def run(self, control: str, server: Server) -> StepOutcome:
        assert server.operation is not None
        operation, faults = server.operation, self.faults
        if control == faults.failing and not operation.undoing:
            return StepOutcome(operation.step, False, fault=Fault("told_to_fail", f"{control} was told to fail"))
        hangs = (operation.command, control, operation.undoing) == (faults.command, faults.hanging, faults.hangs_undo)
        if hangs and faults.before_it:
            await self._hang()
        outcome = await super().run(control, server)
        if faults.twice:
            outcome = await super().run(control, server)
        if hangs and not faults.before_it:
            await self._hang()
        return outcome

    async def came_too_late(self, control: str, asked: Server, now: Server) -> None:
        if not self.faults.forgets:
            await super().came_too_late(control, asked, now)

    async def _hang(self) -> None:
        self.faults.reached.set()
        await self.faults.go.wait()


@dataclass
class Lab:
    system: System
    services: Services
    things: Things
    _before: dict[str, Any] = field(default_factory=dict)
    _disks: dict[str, Any] = field(default_factory=dict)  # what the servers of this test boot from

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator[Lab]:
        with EmbeddedNats.start(directory / "nats", sync_interval=None) as nats:
            async with System.open(nats, directory) as system:
                paths: dict[str, Any] = {
                    "images_path": system.settings.images_dir,
                    "volumes_path": system.settings.volumes_dir,
                }
                settings = ApiSettings(directory, **paths)
                tokens = Tokens(load_keys(directory), system.read)
                services = Services(system.commands, system.read, system.log, tokens, settings)
                lab = cls(system, services, await _things(system))
                yield lab

    # --- commands --------------------------------------------------------------------------------------------------

    async def prepared(self, case: Case, name: str) -> tuple[str, str]:
        """A server on which the command of this case is legal, named so, and a volume: their ids."""
        self.faults()
        self._before = await self.leftovers()
        volume_id = await self._volume()
        self._offload(False)
        root = BlockDevice("blank", size_gb=1, boot_index=0, delete_on_termination=True)
        on_volume = {"image_id": None, "block_devices": (root,)}
        self._disks = on_volume if case.volume_backed else {"image_id": self.things.image}
        if case.command == "create":
            return str(uuid4()), volume_id
        server = await self.system.create("web", **self._disks)
        assert server.vm_state == "active"
        for command in case.before:
            await self.give(command, server.id, volume_id)
            server = await self.system.settled(server.id)
            assert server.fault is None, server.fault
        await self.rename(server.id, name)
        self._offload(case.offload)
        return server.id, volume_id

    async def give(self, command: str, server_id: str, volume_id: str, name: str = "web") -> None:
        """The command as a user gives it, or what the hypervisor shows that leads to it."""
        if command == "create":
            new = new_server(name, id=server_id, **self._disks)
            await self.system.commands.create_servers([new], context())
            return
        server = await self.system.server(server_id)
        if command == "power-sync":
            await self._starts_by_itself(server)
            return
        if command == "swap-volume":
            await self._swap(server, volume_id)
            return
        if command == "settle":
            await self._reset_in_the_middle(server, volume_id)
            return
        if command == "extend-volume":
            await self._extend(server_id, volume_id)
            return
        if command == "snapshot-volume":
            await self._copy_in_use(server_id, volume_id)
            return
        given = params(command, self.things, server, volume_id)
        await carry_out(self.services, command, given, server, context(OWNER))

    async def rename(self, server_id: str, name: str) -> None:
        if (await self.system.server(server_id)).name != name:
            await self.system.do("update", server_id, {"name": name})

    async def _starts_by_itself(self, server: Server) -> None:
        report = Report(
            uuid4().hex, str(server.host), server.id, "observed", server.generation, power_state="running", reason="?"
        )
        subject = f"reports.{server.host}.{server.id}"
        await self.system.log.js.publish(subject, msgspec.json.encode(report))
        await self.system.when(server.id, lambda now: now.version > server.version + 1)

    async def _reset_in_the_middle(self, server: Server, volume_id: str) -> None:
        """Of an attach that its host hangs at; until what it ended is being settled."""
        await self.rename(server.id, f"{server.name}-hang-attach-volume")
        await self.give("attach-volume", server.id, volume_id)
        await self.system.when(server.id, lambda now: now.operation is not None and now.operation.awaits == "agent")
        await self.reset(server.id)
        async with asyncio.timeout(WAIT_SECONDS):
            while not await self.steps_begun(server.id, "settle"):
                await asyncio.sleep(0.01)

    async def reset(self, server_id: str) -> None:
        await self.system.commands.server("reset-state", server_id, {"state": "active"}, context(ADMIN))

    async def _swap(self, server: Server, volume_id: str) -> None:
        other = await self._volume()
        old, new = ({"id": one, "path": str(self._file(one)), "disk_format": "qcow2"} for one in (volume_id, other))
        async with kept(self.system.commands, other, server.id, other, context()):
            await self.system.commands.server("swap-volume", server.id, {"old": old, "new": new}, context(ADMIN))

    async def _extend(self, server_id: str, volume_id: str) -> None:
        begin = partial(volumes.begin_extend, size_gb=2)
        held = await self.system.commands.update("volume", volume_id, {}, context(), check=begin)
        volume = {"id": held.id, "path": str(self._file(held.id)), "disk_format": cast(Volume, held).disk_format}
        given = {"volume": volume, "size_gb": 2}
        await self.system.commands.server("extend-volume", server_id, given, context(internal=True))

    async def _copy_in_use(self, server_id: str, volume_id: str) -> None:
        fields = {"name": "copy", "project_id": "demo", "volume_id": volume_id, "size_gb": 1, "made_by": server_id}
        snapshot = await self.system.commands.create("volume_snapshot", fields, context())
        path = disks.snapshot_path(self.system.settings.volumes_dir, snapshot.id)
        wanted = {"snapshot_id": snapshot.id, "volume_id": volume_id, "path": str(path)}
        given = {"snapshots": [wanted]}
        await self.system.commands.server("snapshot-volume", server_id, given, context(internal=True))

    async def _volume(self) -> str:
        fields = {"name": "disk", "project_id": "demo", "status": "available", "disk_format": disks.disk_format()}
        volume = await self.system.commands.create("volume", fields, context())
        await disks.create(self._file(volume.id), 1, disks.disk_format())
        return volume.id

    def _file(self, volume_id: str) -> Path:
        return disks.volume_path(self.system.settings.volumes_dir, volume_id)

    def _offload(self, offload: bool) -> None:
        commands = self.system.commands
        commands.settings = dataclasses.replace(commands.settings, shelved_offload_seconds=0.0 if offload else -1.0)

    # --- faults ----------------------------------------------------------------------------------------------------

    def faults(self, **given: Any) -> Faults:
        """Faults of the steps of the conductor that runs now, in place of those before."""
        steps, faults = self.system.conductor.steps, Faults(**given)
        faulty = FaultySteps(steps.commands, steps.read, steps.capacity, steps.settings)
        object.__setattr__(faulty, "faults", faults)
        self.system.conductor.steps = faulty
        return faults

    async def another_conductor(self) -> None:
        await self.system.stop_conductor()
        await self.system.start_conductor()

    @asynccontextmanager
    async def echoed(self) -> AsyncIterator[Counter[str]]:
        """Every order and every report reaches its stream twice. The counter tells how many of which."""
        seen: set[tuple[str, bytes]] = set()
        counts: Counter[str] = Counter()

        async def again(message: Msg) -> None:
            if (message.subject, message.data) not in seen:
                seen.add((message.subject, message.data))
                counts[message.subject.split(".")[0]] += 1
                await self.system.log.nc.publish(message.subject, message.data)

        subscriptions = [await self.system.log.nc.subscribe(each, cb=again) for each in ("orders.>", "reports.>")]
        yield counts
        for subscription in subscriptions:
            await subscription.unsubscribe()

    # --- what holds afterwards -------------------------------------------------------------------------------------

    async def events(self, server_id: str) -> list[ServerEvent]:
        commits = await self.system.log.read("server", server_id)
        return [decode_event(event.type, event.data) for one in commits for event in one.commit.events]

    async def steps_begun(self, server_id: str, command: str) -> set[tuple[str, bool]]:
        """The steps that the server's action of this command began, and whether each was an undo."""
        events = [one for one in await self.events(server_id) if one.command == command]
        return {(one.body.step, one.body.undo) for one in events if one.phase == "step_started"}

    async def last_end(self, server_id: str, command: str) -> str:
        """How the last action of this command ended."""
        events = [one for one in await self.events(server_id) if one.command == command]
        return next(one.phase for one in reversed(events) if one.phase in ENDS)

    async def at_rest(self, server_id: str) -> None:
        """Delete the server if it still is, and see that its story is legal and nothing of it is left."""
        self.faults()
        server = await self.system.settled(server_id)
        if server.vm_state != "deleted":
            await self.rename(server_id, "web")
            await self.system.commands.server("force-delete", server_id, {}, context())
            server = await self.system.settled(server_id)
        assert server.vm_state == "deleted"
        await self._done_once(server_id)
        await self.system.quiet()
        for image in await self.system.read.resources("image"):
            if image.id != self.things.image and cast(Image, image).status == "active":  # made for the user to keep
                await self.system.commands.delete("image", image.id, context())
                (self.system.settings.images_dir / image.id).unlink(missing_ok=True)  # made of volumes it has none
        for volume in await self.system.read.resources("volume"):
            if cast(Volume, volume).status == "available" and not cast(Volume, volume).attachments:
                await self.system.commands.delete("volume", volume.id, context())
                self._file(volume.id).unlink()
        for snapshot in await self.system.read.resources("volume_snapshot"):
            status = cast(VolumeSnapshot, snapshot).status
            if status in ("available", "error"):  # the user's own; one that failed is there without a file
                await self.system.commands.delete("volume_snapshot", snapshot.id, context())
            if status == "available":
                disks.snapshot_path(self.system.settings.volumes_dir, snapshot.id).unlink()
        left, before = await self.leftovers(), self._before
        assert left == before, {what: (before[what], left[what]) for what in left if left[what] != before[what]}

    async def leftovers(self) -> dict[str, Any]:
        system = self.system
        await system.quiet()
        addresses: list[Any] = await system.read.resources("address")
        return {
            "ports": [port.id for port in await system.read.resources("port")],
            "addresses": [address.id for address in addresses if address.port_id is not None],
            "room": [view.used_memory_mb for view in system.conductor.capacity.view()],
            "placed": [host.servers for host in await system.read.hosts()],
            "guests": guests(system.directory),
            "volumes": await system.read.resources("volume"),
            "volume files": sorted(
                str(path.relative_to(system.settings.volumes_dir))
                for path in system.settings.volumes_dir.rglob("*")
                if path.is_file()
            ),
            "snapshots": await system.read.resources("volume_snapshot"),
            "images": await system.read.resources("image"),
            "image files": sorted(path.name for path in system.settings.images_dir.iterdir()),
        }

    async def _done_once(self, server_id: str) -> None:
        """Each action is accepted and ended once, what began has ended, and the machine allows every event."""
        audit = MachineAudit()
        for one in await self.system.log.read("server", server_id):
            assert audit.feed(one.commit) is None
        actions: dict[str, list[ServerEvent]] = {}
        for event in await self.events(server_id):
            if event.phase != "observed":
                actions.setdefault(event.body.request_id, []).append(event)
        for events in actions.values():
            _assert_done_once(events)


def _assert_done_once(events: list[ServerEvent]) -> None:
    phases = Counter(event.phase for event in events)
    assert phases["accepted"] == sum(phases[end] for end in ENDS) == 1, phases
    if phases["cancelled"]:
        return  # whatever it was at has no end of its own
    assert steps_of(events, "step_started") == steps_of(events, "step_finished")


async def _things(system: System) -> Things:
    commands = system.commands
    flavor = await commands.create(
        "flavor", {"name": "m1.more", "flavor_id": "2", "vcpus": 1, "ram": 128, "disk": 2}, context()
    )
    fields = {"name": "tiny", "status": "active", "visibility": "public", "disk_format": "qcow2"}
    image = await commands.create("image", fields, context())
    return Things(image.id, flavor.name, system.network_id)
