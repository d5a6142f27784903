"""The supervisor is killed, everything dies with it, and a second `chronova up` on the old data goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import proof, scenarios
from tests.faults.deployment import Deployment, running
from tests.faults.scenarios import scene

ROLE = "supervisor"
pytestmark = pytest.mark.xdist_group("faults-everything")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with running(tmp_path_factory.mktemp("everything")) as started:
        yield started


async def test_killed_during_every_step_of_the_agents(deployment: Deployment) -> None:
    async with scene(deployment) as here:
        await scenarios.kill_during_every_agent_step(here, ROLE)


@pytest.mark.parametrize(("command", "step"), scenarios.CONTROL_STEPS)
async def test_killed_during_every_step_of_the_conductor(deployment: Deployment, command: str, step: str) -> None:
    async with scene(deployment) as here:
        await scenarios.kill_in_sight_of(here, ROLE, command, step)


async def test_killed_during_many_lives(deployment: Deployment) -> None:
    async with scene(deployment) as here:
        await scenarios.kill_during_many_lives(here, ROLE, lives=5, kills=1)


async def test_afterwards_all_holds_and_nothing_is_left(deployment: Deployment) -> None:
    async with scene(deployment) as here:
        await here.delete_all()
    proof.assert_log_and_read_models_hold(deployment)
