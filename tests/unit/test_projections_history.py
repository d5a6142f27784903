"""Given commits, then this history: actions, their steps, and the events that Nova would show."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from domain import decide
from domain.decide import Context
from domain.orders import Fault
from domain.server import EventBody, ServerEvent
from eventlog.envelope import Event, Recorded
from projections.queries import EventQuery
from projections.read_model import ReadModel
from projections.rows import ActionRow
from tests.projections_samples import ADA, LARGE, World, fill


async def history(world: World, id: str, folder: Path) -> list[ActionRow]:
    """The server's actions, oldest first."""
    url = f"sqlite:///{folder}/history.db"
    fill(url, world.log)
    read = await ReadModel.open(url)
    actions = await read.actions(id, steps=True)
    await read.close()
    return actions[::-1]


@pytest.fixture
def world() -> World:
    return World()


async def test_an_action_is_there_from_acceptance_on(world: World, tmp_path: Path) -> None:
    id = world.active()
    request = world.do(id, "stop")
    _, stop = await history(world, id, tmp_path)
    assert (stop.action, stop.command, stop.request_id, stop.result, stop.message) == (
        "stop",
        "stop",
        request,
        None,
        None,
    )
    assert (stop.user_id, stop.user_name, stop.project_id, stop.roles) == ("u-ada", "ada", "p-demo", ("member",))
    assert stop.finish_time is None
    (step,) = stop.steps
    assert (step.step, step.event, step.result, step.host) == ("power_off", "compute_stop_instance", None, "host-1")
    assert stop.events == ()  # Nova's event begins when the host does, of which there is no sign yet


async def test_the_result_is_the_true_end(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "pause")
    world.finish(id, fail_at="pause")
    _, pause = await history(world, id, tmp_path)
    assert (pause.result, pause.message, pause.outcome) == ("Error", "Error", "failed")
    assert pause.fault == Fault("broken", "it broke", "the details")
    assert pause.position_first < pause.position_last
    (event,) = pause.events
    assert (event.result, event.details, event.traceback) == ("Error", "it broke", "the details")


async def test_each_attempt_of_a_build_is_an_event_and_undoing_is_none(world: World, tmp_path: Path) -> None:
    id = world.create()
    world.finish(id, fail_at="spawn")
    (create,) = await history(world, id, tmp_path)
    assert create.result == "Error"
    assert [event.result for event in create.events] == ["Error"] * 3
    spawns = [step for step in create.steps if step.step == "spawn"]
    assert [step.attempt for step in spawns] == [1, 2, 3]
    assert {step.step for step in create.steps if step.undo} >= {"destroy", "delete_ports"}
    assert create.steps[0].details == {"seen": True}


async def test_the_events_of_a_resize_are_novas(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "resize", flavor=msgspec.to_builtins(LARGE))
    world.finish(id)
    *_, resize = await history(world, id, tmp_path)
    assert [event.event for event in resize.events] == [
        "compute_finish_resize",
        "compute_resize_instance",
        "compute_prep_resize",
        "cold_migrate",
        "conductor_migrate_server",
    ]


async def test_what_is_done_at_once_shows_novas_event(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "lock", reason="mine")
    _, lock = await history(world, id, tmp_path)
    assert (lock.action, lock.internal, lock.result, lock.details) == ("lock", False, "Success", {"reason": "mine"})
    assert [event.event for event in lock.events] == ["api_lock"]


async def test_commands_that_nova_does_not_show_are_internal(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "update", name="new")
    _, update = await history(world, id, tmp_path)
    assert (update.action, update.internal, update.events) == ("update", True, ())
    assert update.details == {"before": {"name": "web"}, "after": {"name": "new"}}


async def test_what_the_hypervisor_shows_is_an_action_of_its_own(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.observe(id, "shutdown", "guest powered itself off")
    _, seen = await history(world, id, tmp_path)
    assert (seen.action, seen.command, seen.internal) == ("stop", "power", False)
    assert (seen.user_id, seen.result, seen.outcome) == ("hypervisor", "Success", "observed")
    assert (seen.text, seen.message) == ("guest powered itself off", None)
    assert [event.event for event in seen.events] == ["compute_stop_instance"]


async def test_an_observation_that_moves_no_state_is_internal(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "stop")
    world.finish(id)
    world.observe(id, "running", "somebody started it")
    *_, seen = await history(world, id, tmp_path)
    assert (seen.action, seen.internal, seen.text, seen.events) == ("power", True, "somebody started it", ())


async def test_a_superseded_action_is_cancelled_with_its_open_step(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "stop")
    world.do(id, "delete")
    _, stop, delete = await history(world, id, tmp_path)
    assert (stop.result, stop.outcome) == ("Error", "cancelled")
    assert stop.fault is not None
    assert stop.fault.code == "cancelled"
    assert [step.result for step in stop.steps] == ["Error"]
    assert (delete.action, delete.result) == ("delete", None)


async def test_progress_moves_the_running_step_and_makes_no_new_one(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "create-image", name="snap", image_id="i-2")
    for percent in (20, 60):
        server = world.servers[id]
        assert server.operation is not None
        world.commit_server(id, decide.progress(server, server.operation.step, percent, "copy disk", world.now))
    _, image = await history(world, id, tmp_path)
    (step,) = image.steps
    assert (step.step, step.progress, step.message, step.result) == ("begin_image", 60, "copy disk, 60 %", None)


async def test_a_deadline_ends_the_action_with_its_reason(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "stop")
    server = world.servers[id]
    assert server.operation is not None
    world.commit_server(id, decide.expire(server, server.operation.deadline))
    _, stop = await history(world, id, tmp_path)
    assert (stop.result, stop.fault.code if stop.fault else "") == ("Error", "deadline")
    assert [step.result for step in stop.steps] == ["Error"]


async def test_actions_of_deleted_servers_stay(world: World, tmp_path: Path) -> None:
    id = world.active()
    world.do(id, "delete")
    world.finish(id)
    assert [action.action for action in await history(world, id, tmp_path)] == ["create", "delete"]


async def test_an_end_without_a_beginning_is_shown_all_the_same(world: World, tmp_path: Path) -> None:
    id = world.active()
    lost = ServerEvent("stop", "failed", EventBody("req-lost", fault=Fault("x", "who began this?")))
    world.commit_server(id, [lost])
    _, action = await history(world, id, tmp_path)
    assert (action.request_id, action.result, action.user_id) == ("req-lost", "Error", "conductor")


async def test_one_request_may_hold_several_actions(world: World, tmp_path: Path) -> None:
    id = world.active()
    context = Context(now=world.now, request_id="req-both", user_id="u-ada", project_id="p-demo")
    both = decide.accept(world.servers[id], "lock", {}, context) + decide.accept(
        world.servers[id], "update", {"name": "n"}, context
    )
    world.commit_server(id, both, actor=ADA, request_id="req-both")
    _, lock, update = await history(world, id, tmp_path)
    assert (lock.action, update.action) == ("lock", "update")
    assert lock.request_id == update.request_id == "req-both"


async def test_commits_of_kinds_without_a_table_are_events_all_the_same(world: World, tmp_path: Path) -> None:
    world.active()
    first = world.log[0]
    checkpoint = msgspec.structs.replace(
        first.commit, kind="checkpoint", id="merkle", version=1, events=[Event("checkpoint.made.succeeded")]
    )
    world.log.append(Recorded(len(world.log) + 1, "hash", checkpoint, b""))
    url = f"sqlite:///{tmp_path}/history.db"
    fill(url, world.log)
    read = await ReadModel.open(url)
    (event,) = await read.events(EventQuery(kind="checkpoint"))
    assert (event.type, event.aggregate_id, event.position) == ("checkpoint.made.succeeded", "merkle", len(world.log))
    await read.close()
