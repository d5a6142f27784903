"""What a real guest keeps when its agent is killed, when others touch it, when an operation is ended in its middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import libvirt
import pytest

from tests.life import MARKS, Guest, World, wait_until

pytestmark = MARKS

COUNTER = "(i=0; while :; do i=$((i+1)); echo $i > /run/count; usleep 100000; done) > /dev/null 2>&1 &"


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, list[str]]:
    return world.leftovers()


@pytest.fixture(scope="module")
def guest(world: World, before: dict[str, list[str]]) -> Iterator[Guest]:
    guest = world.create("kills")
    guest.settles("ACTIVE")
    guest.boots()
    guest.run(f"{COUNTER} sleep 0.2")
    yield guest
    guest.delete()
    assert world.left_since(before) == {}


def counted(guest: Guest) -> int:
    """Where the counter is. Each of its writes empties the file first."""
    return int(wait_until(lambda: guest.run("cat /run/count 2>/dev/null"), "it counts"))


def kill_agent(world: World, guest: Guest) -> None:
    world.system.kill(f"agent-{guest.host}")


@contextmanager
def held(world: World, host: str) -> Iterator[None]:
    """The host's agent stands still in here."""
    pid = world.system.pids[f"agent-{host}"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def newest(guest: Guest) -> tuple[str, str | None]:
    return guest.history()[-1]


def test_a_suspended_guest_goes_on_counting_after_its_agent_was_killed(world: World, guest: Guest) -> None:
    reached = counted(guest)
    guest.do("suspend_server", "SUSPENDED")
    kill_agent(world, guest)
    guest.do("resume_server", "ACTIVE")
    assert counted(guest) >= reached
    assert guest.run("cat /data/boots") == "1"


def test_an_agent_killed_while_it_suspends_does_it_to_the_end(world: World, guest: Guest) -> None:
    reached = counted(guest)
    host = guest.host
    world.cloud.compute.suspend_server(guest.id)
    world.system.kill(f"agent-{host}")
    guest.settles("SUSPENDED")
    assert not guest.domain.isActive()
    guest.do("resume_server", "ACTIVE")
    assert counted(guest) >= reached
    assert [action for action, _ in guest.history()].count("suspend") == 2


def test_a_guest_that_went_off_while_no_agent_ran_is_stopped_with_the_reason(world: World, guest: Guest) -> None:
    with held(world, guest.host):
        guest.domain.destroy()
    guest.settles("SHUTOFF")
    action, _ = newest(guest)
    assert action == "stop"


def test_a_guest_started_behind_our_back_is_stopped_again(world: World, guest: Guest) -> None:
    with suppress(libvirt.libvirtError):  # it may be stopped before this call has its answer
        guest.domain.create()
    wait_until(lambda: len([1 for action, _ in guest.history() if action == "stop"]) == 2, "a second stop")
    guest.settles("SHUTOFF")
    assert not guest.domain.isActive()
    guest.do("start_server", "ACTIVE")
    guest.boots()


def test_a_reset_ends_what_was_going_on_and_looks_at_the_guest(world: World, guest: Guest) -> None:
    with held(world, guest.host):
        world.cloud.compute.pause_server(guest.id)
        assert guest.server.task_state == "pausing"
        world.admin.compute.reset_server_state(guest.id, "error")
        assert guest.server.status == "ERROR"
        (action, _), (_, why) = newest(guest), guest.history()[-2]
        assert (action, why) == ("resetState", "Error")
    with world.system.client("chronova-admin") as admin:

        def looked() -> list[str]:
            told = admin.get(f"/v1/servers/{guest.id}/history").json()
            return [str(one) for one in told["actions"] if "reset-state" in str(one)]

        assert wait_until(looked, "the look is in the history")
    world.cloud.compute.reboot_server(guest.id, "HARD")
    wait_until(lambda: guest.server.status != "ERROR", "it is being rebooted")
    guest.settles("ACTIVE")
    guest.boots()


@pytest.mark.parametrize("state", ["building", "PAUSED", "SUSPENDED", "RESCUE", "snapshot", "rebuild"])
def test_delete_ends_everything(world: World, before: dict[str, list[str]], state: str) -> None:
    doomed = world.create(f"doomed-{state}", networks="none")
    compute = world.cloud.compute
    if state != "building":
        doomed.settles("ACTIVE")
    if state == "PAUSED":
        doomed.do("pause_server", "PAUSED")
    elif state == "SUSPENDED":
        doomed.do("suspend_server", "SUSPENDED")
    elif state == "RESCUE":
        doomed.do("rescue_server", "RESCUE")
    elif state == "snapshot":
        compute.create_server_image(doomed.id, "doomed")
    elif state == "rebuild":
        compute.rebuild_server(doomed.id, image=world.image_id)
    doomed.delete()
    wait_until(lambda: doomed.id not in world.domains(), "the guest is gone")
    wait_until(lambda: not list((world.data / "agents").glob(f"*/guests/{doomed.id}")), "its files are gone")

    def images() -> list[Any]:
        return list(world.cloud.image.images(name="doomed"))

    # Taken while it ran and finished in time, an image stays; one that was not to be finished is gone.
    wait_until(lambda: all(image.status == "active" for image in images()), "an image that nobody finishes is gone")
    for image in images():
        world.cloud.image.delete_image(image)
