"""Where a shelve or an unshelve that fails leaves a server: on the shelf, from which it can be tried again."""

from __future__ import annotations

from typing import Any

import pytest

from domain import decide
from domain.decide import StepOutcome
from domain.orders import Fault
from tests.unit.test_domain_decide import BACKED, NOW, context, finish, run, server


@pytest.mark.parametrize("backed", BACKED)
@pytest.mark.parametrize("broken", ["schedule", "create_disk", "config_drive", "spawn"])
def test_an_unshelve_that_fails_leaves_the_server_on_the_shelf_to_be_tried_again(broken: str, backed: str) -> None:
    start = server("shelved_offloaded", **BACKED[backed])
    state = run(start, decide.accept(start, "unshelve", {}, context()))
    for _ in range(60):
        if state.operation is None:
            break
        fails = state.operation.step == broken
        patch: dict[str, Any] = {"host": "host-1"} if state.operation.step == "schedule" and not fails else {}
        if state.operation.step == "release_host":
            patch = {"host": None}
        outcome = StepOutcome(state.operation.step, not fails, patch=patch, fault=Fault("x", "no") if fails else None)
        state = run(state, decide.advance(state, outcome, NOW))
    assert (state.vm_state, state.task_state, state.host) == ("shelved_offloaded", None, None)
    assert not state.guest_exists
    assert state.shelved_image_id == start.shelved_image_id
    assert state.fault is not None
    assert finish(run(state, decide.accept(state, "unshelve", {}, context()))).vm_state == "active"


@pytest.mark.parametrize("backed", BACKED)
def test_a_shelve_whose_offload_fails_is_on_the_shelf(backed: str) -> None:
    start = server("active", **BACKED[backed])
    params = {"image_id": "image-9", "offload": True} if backed == "image" else {"offload": False}
    state = run(start, decide.accept(start, "shelve", params, context()))
    while state.operation is not None:
        fails = state.operation.step == "offload"
        assert state.operation.step != "discard_image"  # it is the server's, who comes back from it
        if fails:
            assert (state.vm_state, state.task_state) == ("shelved", "shelving_offloading")
        power = "shutdown" if state.operation.step == "power_off" else None
        fault = Fault("x", "no") if fails else None
        outcome = StepOutcome(state.operation.step, not fails, fault=fault, power_state=power)
        state = run(state, decide.advance(state, outcome, NOW))
    assert (state.vm_state, state.task_state, state.host) == ("shelved", None, "host-1")
    assert (state.shelved_image_id, state.shelved_at) == ("image-9" if backed == "image" else None, NOW)
    assert finish(run(state, decide.accept(state, "unshelve", {}, context()))).vm_state == "active"
