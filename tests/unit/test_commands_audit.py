"""The audit holds a log against the machine: what decisions lead to passes, what none leads to is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands.audit import MachineAudit
from domain import decide
from domain.server import EventBody, Operation, Server, ServerEvent, ServerPatch
from eventlog.envelope import Actor, Recorded
from tests.projections_samples import ADA, LARGE, START, World, lively

ADMIN = Actor("u-root", "root", "p-admin", "admin", ("admin",))
COMMANDS = [
    *("stop", "start", "pause", "unpause", "suspend", "resume", "reboot-soft", "reboot-hard", "lock", "unlock"),
    *("delete", "force-delete", "soft-delete", "restore", "resize", "confirm-resize", "revert-resize", "shelve"),
    *("shelve-offload", "unshelve", "rebuild", "rescue", "unrescue", "create-image", "attach-volume", "detach-volume"),
    *("update", "metadata-set", "tags", "reset-state", "settle", "add-security-group", "attach-interface"),
]
IMAGE = {"id": "i-new", "properties": {}}
PARAMS: dict[str, dict[str, Any]] = {
    "resize": {"flavor": msgspec.to_builtins(LARGE)},
    "rebuild": {"image": IMAGE, "name": "anew"},
    "rescue": {"image": IMAGE},
    "create-image": {"image_id": "i-made"},
    "shelve": {"image_id": "i-made", "offload": True},
    "attach-volume": {"volume": {"id": "v-1", "path": "v-1"}, "attachment_id": "a-1"},
    "detach-volume": {"volume_id": "v-1", "volume": {"id": "v-1", "path": "v-1"}},
    "update": {"name": "other"},
    "metadata-set": {"metadata": {"a": "b"}},
    "tags": {"tags": ["blue"]},
    "reset-state": {"state": "active"},
    "add-security-group": {"group": "web"},
    "attach-interface": {"port_id": "port-2", "network_id": "net"},
}


def found(log: list[Recorded]) -> str | None:
    """The first finding in a log."""
    audit = MachineAudit()
    return next((wrong for one in log if (wrong := audit.feed(one.commit)) is not None), None)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A server driven at random; what is refused does not happen."""
    from domain.errors import Rejected

    world = World()
    id = world.active() if draw(st.booleans()) else world.create()
    for _ in range(draw(st.integers(0, 40))):
        happens = st.sampled_from(["step", "step", "step", "fail", "observe", "expire"])
        act = draw(st.one_of(happens, st.sampled_from(COMMANDS)))
        server = world.servers[id]
        if act in ("step", "fail"):
            if server.operation is not None and not server.operation.stuck:
                world.step(id, succeeded=act == "step")
        elif act == "observe":
            world.observe(id, draw(st.sampled_from(["running", "shutdown", "paused", "suspended", "crashed"])))
        elif act == "expire":
            if server.operation is not None:
                world.commit_server(id, decide.expire(server, server.operation.deadline))
        elif act != "settle" or server.owed:
            try:
                world.do(id, act, **PARAMS.get(act, {}))
            except Rejected:
                continue
    return world


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds())
def test_whatever_is_decided_holds(world: World) -> None:
    assert found(world.log) is None


def test_a_lively_log_holds() -> None:
    assert found(lively().log) is None


def forged(command: str, phase: str, request_id: str = "req-forged", **patch: Any) -> ServerEvent:
    return ServerEvent(command, phase, EventBody(request_id=request_id, patch=ServerPatch(**patch)))


def operation(command: str, request_id: str = "req-forged") -> Operation:
    return Operation(request_id, command, START, START, "u-ada", "p-demo")


def at_once(command: str, **patch: Any) -> list[ServerEvent]:
    return [forged(command, "accepted"), forged(command, "succeeded", **patch)]


def of(server: Server) -> Operation:
    assert server.operation is not None
    return server.operation


FORGERIES: dict[str, tuple[Callable[[Server], list[ServerEvent]], str]] = {
    "an outcome of nothing": (
        lambda server: [forged("attach-volume", "succeeded", operation=None)],
        "no attach-volume is in progress",
    ),
    "done at once, not accepted": (
        lambda server: [forged("lock", "succeeded", locked_by="owner")],
        "lock is accepted and succeeds in one commit",
    ),
    "accepted at once, not done": (
        lambda server: [forged("lock", "accepted")],
        "lock is accepted and succeeds in one commit",
    ),
    "a second birth": (
        lambda server: [forged("create", "accepted", vm_state="building", task_state="scheduling")],
        "the machine does not allow server.create.accepted from active/none",
    ),
    "another project": (lambda server: at_once("update", name="x", project_id="evil"), "it changes project_id"),
    "another host": (lambda server: at_once("lock", locked_by="owner", host="host-9"), "it changes host"),
    "an acceptance with another host": (
        lambda server: [
            forged("pause", "accepted", task_state="pausing", operation=operation("pause"), host="host-9", user_id="x")
        ],
        "it changes host, user_id",
    ),
    "an acceptance that begins nothing": (
        lambda server: [forged("attach-volume", "accepted")],
        "it does not begin its own operation",
    ),
    "an acceptance that begins another command": (
        lambda server: [forged("pause", "accepted", task_state="pausing", operation=operation("stop"))],
        "it does not begin its own operation",
    ),
    "an observation that moves it": (lambda server: [forged("power", "observed", host="host-9")], "it changes host"),
    "what nothing carries out": (
        lambda server: [forged("attach-share", "cancelled")],
        "the machine does not allow server.attach-share.cancelled",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_nobody_decided_is_named(name: str) -> None:
    forge, finding = FORGERIES[name]
    world = World()
    id = world.active()
    world.commit_server(id, forge(world.servers[id]), actor=ADA)
    assert finding in str(found(world.log))


DURING: dict[str, tuple[Callable[[Server], list[ServerEvent]], str]] = {
    "the end of another request": (
        lambda server: [forged("pause", "succeeded", vm_state="paused", task_state=None, operation=None)],
        "is in progress, not this one",
    ),
    "an end that leaves it open": (
        lambda server: [forged("pause", "succeeded", of(server).request_id, vm_state="paused", task_state=None)],
        "it leaves its operation open",
    ),
    "a step that changes who asked": (
        lambda server: [
            forged(
                "pause",
                "step_started",
                of(server).request_id,
                operation=msgspec.structs.replace(of(server), user_id="x"),
            )
        ],
        "it puts another operation in the place of its own",
    ),
    "orders taken back": (
        lambda server: [forged("pause", "step_started", of(server).request_id, generation=0)],
        "it takes the generation of its orders back",
    ),
    "cancelled for nothing": (
        lambda server: [forged("pause", "cancelled", of(server).request_id, task_state=None, operation=None)],
        "nothing follows that takes its place",
    ),
    "cancelled by what supersedes nothing": (
        lambda server: [
            forged("pause", "cancelled", of(server).request_id, task_state=None, operation=None),
            forged("stop", "accepted", task_state="powering-off", operation=operation("stop")),
        ],
        "nothing follows that takes its place",
    ),
    "two at a time": (
        lambda server: [forged("attach-volume", "accepted", operation=operation("attach-volume"))],
        "the machine does not allow server.attach-volume.accepted",
    ),
}


@pytest.mark.parametrize("name", DURING)
def test_what_nobody_decided_while_something_goes_on_is_named(name: str) -> None:
    forge, finding = DURING[name]
    world = World()
    id = world.active()
    world.do(id, "pause")
    world.commit_server(id, forge(world.servers[id]), actor=ADA)
    assert finding in str(found(world.log))


@pytest.mark.parametrize(("actor", "finding"), [(ADA, "is locked"), (ADMIN, "None")], ids=["member", "admin"])
def test_a_lock_holds_against_who_is_no_admin(actor: Actor, finding: str) -> None:
    world = World()
    id = world.active()
    world.do(id, "lock")
    paused = forged("pause", "accepted", task_state="pausing", operation=operation("pause"))
    world.commit_server(id, [paused], actor=actor)
    assert finding in str(found(world.log))


def test_a_server_that_never_ran_is_not_started_and_one_without_a_host_is_not_stopped() -> None:
    world = World()
    never = world.create()
    world.finish(never, fail_at="schedule")
    assert world.servers[never].host is None
    stop = forged("stop", "accepted", task_state="powering-off", operation=operation("stop"))
    world.commit_server(never, [stop], actor=ADMIN)
    assert "is not ready" in str(found(world.log))
    world = World()
    never = world.create()
    world.finish(never, fail_at="schedule")
    rescue = forged("rescue", "accepted", task_state="rescuing", operation=operation("rescue"))
    world.commit_server(never, [rescue], actor=ADMIN)
    assert "is in an invalid state for 'rescue'" in str(found(world.log))


def test_a_server_that_was_never_created_has_no_events() -> None:
    world = World()
    id = world.new_id()
    world.servers[id] = Server(id=id)
    world.commit_server(id, at_once("lock", locked_by="owner"), actor=ADA)
    assert "a server begins with server.create.accepted" in str(found(world.log))
