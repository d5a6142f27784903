"""A process of a running `chronova up` is killed at every step and undo, in many lives, and under writers.

Each role has a system of its own, which all its tests share; the last of them sees that nothing was left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults import proof, scenarios
from tests.faults.catalogue import CASES
from tests.faults.deployment import Deployment, running
from tests.faults.scenarios import Target, scene

pytestmark = pytest.mark.timeout(900)  # many servers, several rounds of them, and a start of everything in each

CONFIG = """
[commands]
shelved_offload_seconds = -1.0
unclaimed_seconds = 15.0
host_down_after = 60.0
"""


@dataclass(frozen=True)
class Role:
    """Who is killed: its process's name, and how often a test with many kills does it."""

    name: str
    lives: int = 8
    kills: int = 2


ROLES = (
    Role("agents"),  # guests outlive them, orders come again
    Role("control"),  # API and conductor
    Role("projector"),  # the read models; everything else goes on meanwhile
    Role("nats-server"),  # what it acknowledged is there again, the others reconnect
    Role("supervisor", lives=5, kills=1),  # everything dies with it; a second `chronova up` on the old data goes on
)


@dataclass(frozen=True)
class Killed:
    role: Role
    deployment: Deployment


@pytest.fixture(
    scope="module",
    params=[pytest.param(role, id=role.name, marks=pytest.mark.xdist_group(f"faults-{role.name}")) for role in ROLES],
)
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    directory = tmp_path_factory.mktemp(request.param.name)
    config = directory / "config.toml"
    config.write_text(CONFIG)
    with running(directory, "--config", str(config)) as deployment:
        yield Killed(request.param, deployment)


async def test_during_every_step_of_the_agents(killed: Killed) -> None:
    async with scene(killed.deployment) as here:
        targets = [scenarios.slow_step(case) for case in scenarios.AGENT_STEPS]
        await scenarios.kill_during_steps(here, killed.role.name, targets)


async def test_during_every_undo_of_the_agents(killed: Killed) -> None:
    async with scene(killed.deployment) as here:
        targets = [scenarios.slow_undo(case, undo) for case, undo in scenarios.AGENT_UNDOS]
        await scenarios.kill_during_steps(here, killed.role.name, targets)


async def test_after_resets_in_the_middle_of_steps(killed: Killed) -> None:
    async with scene(killed.deployment) as here:
        await scenarios.kill_after_resets(here, killed.role.name)


async def test_while_a_change_is_seen(killed: Killed) -> None:
    async with scene(killed.deployment) as here:
        await scenarios.kill_while_it_is_seen(here, killed.role.name)


@pytest.mark.parametrize(("command", "step"), scenarios.CONTROL_STEPS)
async def test_during_a_step_of_the_conductor(killed: Killed, command: str, step: str) -> None:
    case = next(case for case in CASES if (case.command, case.step.name) == (command, step))
    async with scene(killed.deployment) as here:
        await scenarios.kill_in_sight_of(here, killed.role.name, Target(case, step, False, ""))


@pytest.mark.parametrize("undo", [undo.name for _, undo in scenarios.CONTROL_UNDOS])
async def test_during_an_undo_of_the_conductor(killed: Killed, undo: str) -> None:
    target = next(scenarios.slow_undo(case, one) for case, one in scenarios.CONTROL_UNDOS if one.name == undo)
    async with scene(killed.deployment) as here:
        await scenarios.kill_in_sight_of(here, killed.role.name, target, victims=3)


async def test_during_many_lives(killed: Killed) -> None:
    async with scene(killed.deployment) as here:
        await scenarios.kill_during_many_lives(here, killed.role.name, lives=killed.role.lives, kills=killed.role.kills)


async def test_no_acknowledged_command_is_lost_and_none_is_done_twice(killed: Killed) -> None:
    async with scene(killed.deployment) as here:
        await scenarios.kill_under_writers(here, killed.role.name, kills=killed.role.kills)


async def test_afterwards_all_holds_and_nothing_is_left(killed: Killed) -> None:
    async with scene(killed.deployment) as here:
        await here.delete_all()
    proof.assert_log_and_read_models_hold(killed.deployment)
