"""One libvirt host with a guest for the agent's tests: orders by a line, and looks inside the guest."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from pathlib import Path
from typing import Any

import libvirt_qemu
import msgspec

from domain.orders import AddressSpec, GuestSpec, ImageSpec, NicSpec, Order, OrderKind
from hypervisor_agent.driver import Done, LifecycleEvent, OrderFailed
from hypervisor_agent.libvirt.driver import LibvirtDriver

BOOT_SECONDS = 90.0
AGENT_SECONDS = 60  # for one answer of a guest's agent


def spec(image: Path, **changes: Any) -> GuestSpec:
    server_id = str(uuid.uuid4())
    network_id = str(uuid.uuid4())
    subnet = f"10.99.{uuid.UUID(network_id).bytes[0]}"
    address = AddressSpec(f"{subnet}.5", 24, f"{subnet}.1", (f"{subnet}.1",))
    port_id = str(uuid.uuid4())
    mac = "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in uuid.UUID(port_id).bytes[:3])
    base = GuestSpec(
        server_id=server_id,
        instance_name=f"instance-{server_id[:8]}",
        name="web 1 <&>",
        hostname="web-1",
        project_id="demo",
        vcpus=1,
        memory_mb=96,
        disk_gb=1,
        image=ImageSpec("tiny", str(image)),
        nics=(NicSpec(port_id, network_id, mac, (address,)),),
    )
    return msgspec.structs.replace(base, **changes)


class Lab:
    """A driver that is open and the server its orders are about."""

    def __init__(self, driver: LibvirtDriver, server: GuestSpec) -> None:
        self.driver = driver
        self.server = server
        self.events: list[LifecycleEvent] = []
        self.told: list[tuple[int, str]] = []  # the progress of the newest order
        self.generation = 0
        self._seen = 0
        driver.on_lifecycle(self.events.append)

    def order(self, kind: OrderKind, **params: Any) -> Order:
        self.generation += 1
        return Order(
            id=str(self.generation),
            kind=kind,
            server_id=self.server.server_id,
            host="host-1",
            generation=self.generation,
            spec=self.server,
            params=params,
        )

    async def do(self, kind: OrderKind, **params: Any) -> Done:
        return await self.carry_out(self.order(kind, **params))

    async def carry_out(self, order: Order) -> Done:
        self.told = []
        return await self.driver.carry_out(order, lambda percent, what: self.told.append((percent, what)))

    async def build(self) -> None:
        for kind in ("create_disk", "config_drive", "spawn"):
            await self.do(kind)

    async def console(self) -> str:
        return await self.driver.console_output(self.server.server_id, None)

    async def says(self, text: str, seconds: float = BOOT_SECONDS) -> str:
        """The next line of the console that has the text; each line is found once."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            console = await self.console()
            at = console.find(text, self._seen)
            if at >= 0 and "\n" in console[at:]:
                self._seen = console.index("\n", at)
                return console[at : self._seen]
            await asyncio.sleep(0.05)
        raise AssertionError(f"the guest did not say {text!r}; its last words: {(await self.console())[-2000:]}")

    async def boots(self) -> dict[str, str]:
        """Wait until the guest is up; what it said of itself."""
        words = (await self.says("CHRONOVA-READY")).split()
        found = dict(word.split("=", 1) for word in words if "=" in word)
        await self.run("true")
        return found

    async def run(self, line: str) -> str:
        """What a shell line prints inside the guest."""
        arguments = {"path": "/bin/sh", "arg": ["-c", line], "capture-output": True}
        limit = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                pid = (await self._agent("guest-exec", arguments))["pid"]
                break
            except Exception:
                if time.monotonic() > limit:
                    raise
                await asyncio.sleep(0.1)
        while True:
            try:
                status = await self._agent("guest-exec-status", {"pid": pid})
            except OrderFailed:  # on a loaded machine it may miss the time for one answer
                if time.monotonic() > limit:
                    raise
                continue
            if status["exited"]:
                break
            await asyncio.sleep(0.05)
        return base64.b64decode(status.get("out-data", "")).decode().strip()

    async def _agent(self, command: str, arguments: dict[str, Any]) -> Any:
        text = msgspec.json.encode({"execute": command, "arguments": arguments}).decode()
        answer = await self.driver._guest(self.server.server_id).call(
            lambda domain: libvirt_qemu.qemuAgentCommand(domain, text, AGENT_SECONDS, 0)
        )
        return msgspec.json.decode(answer, type=dict[str, Any])["return"]

    async def event(self, seconds: float = 60.0) -> LifecycleEvent:
        limit = time.monotonic() + seconds
        while not self.events:
            assert time.monotonic() < limit, "no lifecycle event"
            await asyncio.sleep(0.02)
        return self.events.pop(0)
