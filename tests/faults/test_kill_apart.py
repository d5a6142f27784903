"""Each role alone is killed at every step of create, stop and delete, and started again by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import proof, scenarios
from tests.faults.apart import ROLES, Apart, running_apart
from tests.faults.catalogue import CASES
from tests.faults.scenarios import Target, scene

pytestmark = [pytest.mark.xdist_group("faults-apart"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with running_apart(tmp_path_factory.mktemp("apart")) as started:
        yield started


@pytest.mark.parametrize("role", ROLES)
async def test_during_every_step_of_the_agent(apart: Apart, role: str) -> None:
    async with scene(apart) as here:
        await scenarios.kill_during_steps(
            here, role, [scenarios.slow_step(one) for one in scenarios.CREATE_STOP_DELETE]
        )


@pytest.mark.parametrize(("command", "step"), scenarios.CONTROL_STEPS)
async def test_the_conductor_during_its_own_steps(apart: Apart, command: str, step: str) -> None:
    case = next(case for case in CASES if (case.command, case.step.name) == (command, step))
    async with scene(apart) as here:
        await scenarios.kill_in_sight_of(here, "conductor", Target(case, step, False, ""), victims=3)


async def test_afterwards_all_holds_and_nothing_is_left(apart: Apart) -> None:
    async with scene(apart) as here:
        await here.delete_all()
    proof.assert_log_and_read_models_hold(apart)
