"""What is owed after a reset: the reset's word stands whatever becomes of it, and nothing of it counts as unclaimed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from commands.sweep import _at_work_on
from domain import decide
from domain.decide import StepOutcome
from domain.orders import Fault
from domain.server import FlavorSnapshot, Server, ServerEvent, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def running() -> Server:
    return Server(
        id="00000000-0000-4000-8000-000000000001",
        vm_state="active",
        power_state="running",
        host="host-1",
        guest_exists=True,
        version=5,
        flavor=FlavorSnapshot(id="1", name="f", vcpus=1, ram=512, disk=1),
        image_id="image",
        project_id="p",
        launched_at=NOW,
    )


def context(request_id: str) -> decide.Context:
    return decide.Context(now=NOW, request_id=request_id, user_id="u", project_id="p", is_admin=True)


def after(server: Server, events: Iterable[ServerEvent]) -> Server:
    for event in events:
        server = evolve(server, event, NOW)
    return server


def test_a_settling_that_fails_leaves_the_fault_that_the_reset_set() -> None:
    server = after(running(), decide.accept(running(), "pause", {}, context("req-1")))
    server = after(server, decide.accept(server, "reset-state", {"state": "error"}, context("req-2")))
    assert server.owed
    said = server.fault
    assert said is not None
    server = after(server, decide.accept(server, "settle", {}, context("req-3")))
    away = Fault("hypervisor_unreachable", "The hypervisor daemon went away")
    failed = decide.advance(server, StepOutcome(step="settle", succeeded=False, fault=away, host="host-1"), NOW)
    assert failed[-1].body.fault == away
    server = after(server, failed)
    assert (server.vm_state, server.fault) == ("error", said)
    assert server.owed


def test_the_image_of_a_creation_that_was_reset_is_wanted_until_it_is_settled() -> None:
    begun = decide.accept(running(), "create-image", {"image_id": "new", "name": "x"}, context("req-1"))
    server = after(running(), begun)
    assert server.operation is not None
    server = after(server, decide.advance(server, StepOutcome(step=server.operation.step or "", succeeded=True), NOW))
    assert _at_work_on(server) == {"new"}
    server = after(server, decide.accept(server, "reset-state", {"state": "active"}, context("req-2")))
    assert server.operation is None
    assert _at_work_on(server) == {"new"}
