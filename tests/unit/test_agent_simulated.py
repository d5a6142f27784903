"""The simulated driver: the states of a real hypervisor, faults on demand, and a memory that outlives its process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import pytest_asyncio

from domain.orders import Fault, GuestSpec, Order, OrderKind
from hypervisor_agent.driver import Done, LifecycleEvent, OrderFailed, Unsupported, make_driver
from hypervisor_agent.simulated import SimulatedDriver


def spec(name: str = "web", **changes: Any) -> GuestSpec:
    base = GuestSpec(
        server_id=f"id-of-{name}",
        instance_name="instance-00000001",
        name=name,
        hostname=name,
        project_id="demo",
        vcpus=2,
        memory_mb=512,
        disk_gb=10,
    )
    return msgspec.structs.replace(base, **changes)


class Host:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.driver = SimulatedDriver("host-1", folder, options)
        self.generation = 0

    def order(self, kind: OrderKind, server: GuestSpec, **params: Any) -> Order:
        self.generation += 1
        number = self.generation
        return Order(str(number), kind, server.server_id, "host-1", generation=number, spec=server, params=params)

    async def do(self, kind: OrderKind, server: GuestSpec, **params: Any) -> Done:
        return await self.driver.carry_out(self.order(kind, server, **params), lambda percent, message: None)

    async def fails(self, kind: OrderKind, server: GuestSpec, **params: Any) -> Fault:
        with pytest.raises(OrderFailed) as failed:
            await self.do(kind, server, **params)
        return failed.value.fault

    async def build(self, server: GuestSpec) -> None:
        for kind in ("create_disk", "config_drive", "spawn"):
            await self.do(kind, server)


Open = Callable[..., Awaitable[Host]]


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens hosts with options, all of the same directory."""
    hosts = []

    async def open_host(**options: Any) -> Host:
        host = Host(tmp_path, **options)
        await host.driver.open()
        hosts.append(host)
        return host

    yield open_host
    for host in hosts:
        await host.driver.close()


@pytest_asyncio.fixture
async def host(opened: Open) -> Host:
    return await opened()


VOLUME = {"id": "vol-1", "path": "vol-1"}
PARAMS: dict[str, dict[str, Any]] = {
    "resize": {"flavor": {"vcpus": 4, "ram": 1024, "disk": 20}},
    "attach_volume": {"volume": VOLUME},
    "swap_volume": {"old": VOLUME, "new": {"id": "vol-2", "path": "vol-2"}},
    "extend_volume": {"volume": {"id": "vol-2", "path": "vol-2"}, "size_gb": 2},
    "detach_volume": {"volume": {"id": "vol-2", "path": "vol-2"}},
    "attach_interface": {"nic": {"port_id": "p", "network_id": "n", "mac": "fa:16:3e:00:00:01"}},
    "detach_interface": {"nic": {"port_id": "p", "network_id": "n", "mac": "fa:16:3e:00:00:01"}},
    "set_password": {"username": "root", "password": "x"},
}
STORY: tuple[tuple[OrderKind, str], ...] = (
    ("create_disk", "nostate"),
    ("config_drive", "nostate"),
    ("spawn", "running"),
    ("pause", "paused"),
    ("unpause", "running"),
    ("suspend", "suspended"),
    ("resume", "running"),
    ("reboot_soft", "running"),
    ("reboot_hard", "running"),
    ("set_password", "running"),
    ("crash_dump", "running"),
    ("attach_volume", "running"),
    ("swap_volume", "running"),
    ("extend_volume", "running"),
    ("snapshot_volumes", "running"),
    ("detach_volume", "running"),
    ("attach_interface", "running"),
    ("detach_interface", "running"),
    ("settle", "running"),
    ("console_output", "running"),
    ("snapshot", "running"),
    ("rescue", "running"),
    ("unrescue", "running"),
    ("resize", "running"),
    ("resize_revert", "running"),
    ("resize", "running"),
    ("resize_confirm", "running"),
    ("rebuild", "running"),
    ("power_off", "shutdown"),
    ("power_on", "running"),
    ("offload", "nostate"),
    ("create_disk", "nostate"),
    ("spawn", "running"),
    ("destroy", "nostate"),
)


async def test_every_order_kind_is_carried_out_and_may_be_repeated(host: Host, tmp_path: Path) -> None:
    server = spec()
    for kind, state in STORY:
        params = {"image_path": str(tmp_path / "image")} if kind == "snapshot" else PARAMS.get(kind, {})
        if kind == "snapshot_volumes":
            params = {"snapshots": [{"volume_id": "vol-2", "path": str(tmp_path / "snapshots" / "vol-2")}]}
        order = host.order(kind, server, **params)
        for _ in range(2):
            done = await host.driver.carry_out(order, lambda percent, message: None)
            assert done.power_state == state, kind
        again = await host.do(kind, server, **params)  # another order that asks for what holds already
        assert again.power_state == state, kind
    assert {kind for kind, _ in STORY} == set(get_args(OrderKind))
    assert await host.driver.guests() == []


async def test_guests_outlive_the_process(opened: Open, tmp_path: Path) -> None:
    first = await opened()
    for name in ("stays", "goes"):
        await first.build(spec(name))
    await first.do("pause", spec("stays"))
    await first.do("destroy", spec("goes"))
    with (tmp_path / "simulated.jsonl").open("ab") as file:
        file.write(b'{"server_id": "torn')  # the process was killed while it wrote
    second = await opened(capacity={"vcpus": 3})
    seen = await second.driver.guests()
    assert [(guest.server_id, guest.power_state, guest.generation) for guest in seen] == [("id-of-stays", "paused", 7)]
    second.generation = 6
    assert (await second.fails("pause", spec("goes"))).code == "superseded"
    second.generation = 8
    assert (await second.fails("spawn", spec("more"))).code == "no_capacity"


async def test_without_persistence_nothing_is_written(opened: Open, tmp_path: Path) -> None:
    host = await opened(persist=False)
    await host.build(spec())
    assert list(tmp_path.iterdir()) == []


async def test_an_older_generation_is_refused_also_after_the_guest_is_gone(host: Host) -> None:
    await host.build(spec())
    old = host.order("spawn", spec())
    await host.do("destroy", spec())
    with pytest.raises(OrderFailed) as refused:
        await host.driver.carry_out(old, lambda percent, message: None)
    assert refused.value.fault.code == "superseded"


async def test_capacity_is_taken_and_given_back(opened: Open) -> None:
    host = await opened(capacity={"vcpus": 4, "memory_mb": 1024, "disk_gb": 40})
    await host.build(spec("one"))
    await host.build(spec("two"))
    assert (await host.fails("spawn", spec("three"))).code == "no_capacity"
    assert (await host.fails("resize", spec("two"), flavor={"vcpus": 4, "ram": 512, "disk": 10})).code == "no_capacity"
    await host.do("destroy", spec("one"))
    await host.do("resize", spec("two"), flavor={"vcpus": 4, "ram": 512, "disk": 10})
    await host.do("resize_revert", spec("two"))
    await host.build(spec("three"))


async def test_failures_by_kind_name_and_number(opened: Open, tmp_path: Path) -> None:
    rules = [
        {"kind": "spawn", "name": "bad-*", "times": 1, "code": "boom", "message": "as told"},
        {"kind": "power_off", "after": True},
    ]
    host = await opened(failures=rules)
    await host.build(spec("good"))
    fault = await host.fails("spawn", spec("bad-one"))
    assert (fault.code, fault.message) == ("boom", "as told")
    await host.build(spec("bad-one"))
    await host.fails("power_off", spec("good"))
    assert (await host.driver.guests())[0].power_state == "shutdown"
    with pytest.raises(ValueError, match="options of the simulated driver"):
        SimulatedDriver("host-1", tmp_path, {"failures": [{"knd": "spawn"}]})


async def test_a_server_s_name_may_ask_for_its_fault(host: Host) -> None:
    await host.fails("spawn", spec("web-fail-spawn"))
    await host.fails("power_off", spec("web-failonce-power-off"))
    await host.build(spec("web-failonce-power-off"))
    await host.do("power_off", spec("web-failonce-power-off"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(host.do("create_disk", spec("web-hang-create-disk")), 0.05)


async def test_latency(opened: Open) -> None:
    host = await opened(latency={"spawn": [0.02, 0.03], "*": 0, "destroy": "hang"})
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await host.build(spec())
    assert loop.time() - begun >= 0.02
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(host.do("destroy", spec()), 0.05)
    assert len(await host.driver.guests()) == 1


async def test_what_a_host_does_not_know_is_unsupported(opened: Open) -> None:
    host = await opened(unsupported=["crash_dump"])
    await host.build(spec())
    with pytest.raises(Unsupported):
        await host.do("crash_dump", spec())
    assert "crash_dump" not in (await host.driver.inventory()).capabilities


async def test_lifecycle_hooks(host: Host) -> None:
    events: list[LifecycleEvent] = []
    host.driver.on_lifecycle(events.append)
    await host.build(spec())
    host.driver.power_off_by_guest("id-of-web")
    host.driver.start_outside("id-of-web")
    host.driver.crash_guest("id-of-web")
    assert [(event.power_state, event.reason) for event in events] == [
        ("shutdown", "guest powered itself off"),
        ("running", "started outside chronova"),
        ("crashed", "guest crashed"),
    ]
    assert (await host.do("power_off", spec())).power_state == "shutdown"


async def test_console_and_diagnostics(host: Host) -> None:
    await host.build(spec())
    await host.do("reboot_hard", spec())
    assert "boots=2" in await host.driver.console_output("id-of-web", 1)
    assert (await host.driver.console_output("id-of-web", None)).count("CHRONOVA-READY") == 2
    assert (await host.driver.diagnostics("id-of-web"))["state"] == "running"
    with pytest.raises(OrderFailed, match="no guest"):
        await host.driver.diagnostics("nobody")


def test_it_is_made_by_name(tmp_path: Path) -> None:
    assert make_driver("simulated", "host-1", tmp_path).name == "simulated"
