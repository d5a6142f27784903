"""The rules of volumes: who gets one, what holds afterwards, and that each change bears being decided twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain import volumes
from domain.errors import Invalid, NotFound, Rejected
from domain.resources import Volume, VolumeSnapshot

AT = {"id": "attachment", "server_id": "one", "volume_id": "v", "device": "/dev/vdb"}


def volume(status: str = "available", **fields: Any) -> Volume:
    return Volume(id="v", status=status, **fields)


def after(state: Volume, changes: dict[str, Any]) -> Volume:
    return msgspec.structs.replace(state, **changes)


def in_use() -> Volume:
    return volume("in-use", attachments=(AT,))


def test_the_way_in_and_out_of_a_server_each_step_decided_twice() -> None:
    state = volume()
    steps: list[tuple[Any, str]] = [
        (lambda now: volumes.reserve(now, "one", "token"), "reserved"),
        (lambda now: volumes.begin_attach(now, "one"), "attaching"),
        (lambda now: volumes.attached(now, AT), "in-use"),
        (volumes.begin_detach, "detaching"),
        (lambda now: volumes.detached(now, "one"), "available"),
    ]
    for decide, status in steps:
        state = after(state, decide(state))
        assert state.status == status
        assert decide(state) == {}, f"{status}: it holds already"
    assert (list(state.attachments), state.reserved_for, state.reservation) == ([], "", "")


def test_of_two_that_want_it_one_is_refused() -> None:
    held = after(volume(), volumes.reserve(volume(), "one", "first"))
    for server_id, token in (("two", "second"), ("one", "second")):
        with pytest.raises(Invalid, match="Current status: 'reserved'"):
            volumes.reserve(held, server_id, token)
    assert volumes.unreserve(held, "second") == {}, "whoever was refused gives nothing back"
    assert after(held, volumes.unreserve(held, "first")).status == "available"
    taken = after(held, volumes.begin_attach(held, "one"))
    assert volumes.unreserve(taken, "first") == {}, "it is being attached: its workflow ends that"


def test_a_volume_whose_making_failed_can_be_deleted_by_its_build() -> None:
    state = volume("creating", reserved_for="one")
    state = after(state, volumes.detached(state, "one"))
    assert after(state, volumes.begin_delete(state, force=True)).status == "deleting"


def test_what_is_not_of_the_server_stays_as_it_is() -> None:
    assert volumes.detached(in_use(), "two") == {}
    assert volumes.roll_detaching(volume("detaching", attachments=(AT,)), "one") == {"status": "in-use"}
    assert volumes.roll_detaching(volume("detaching", attachments=(AT,)), "two") == {}


@pytest.mark.parametrize(
    "decide",
    [
        lambda: volumes.begin_delete(in_use()),
        lambda: volumes.begin_delete(volume("reserved", reserved_for="one"), force=True),
        lambda: volumes.begin_delete(volume("extending")),
        lambda: volumes.begin_extend(volume("creating"), 2),
        lambda: volumes.begin_extend(volume(), 1),
        lambda: volumes.begin_work(in_use(), "uploading"),
        lambda: volumes.must_be_detachable(volume("error")),
        lambda: volumes.must_be_able_to_replace(volume(), volume("in-use")),
        lambda: volumes.must_be_able_to_replace(Volume(id="w", size_gb=1), volume("in-use", size_gb=2)),
        lambda: volumes.must_be_able_to_replace(Volume(id="w"), volume()),
        lambda: volumes.revert(volume(), VolumeSnapshot(id="s", volume_id="w", size_gb=1, status="available")),
        lambda: volumes.begin_delete_snapshot(VolumeSnapshot(id="s", volume_id="v", size_gb=1)),
        lambda: volumes.reset_status(volume(), "sold", detached=False),
    ],
)
def test_refused_with_400(decide: Any) -> None:
    with pytest.raises(Rejected) as refused:
        decide()
    assert refused.value.code == 400


def test_an_extension_keeps_the_attachment_and_a_failed_one_changes_nothing() -> None:
    begun = after(in_use(), volumes.begin_extend(in_use(), 3))
    assert begun.status == "extending"
    assert after(begun, volumes.extended(begun, 3)) == after(in_use(), {"size_gb": 3})
    assert after(begun, volumes.not_extended(begun)) == in_use()
    assert volumes.not_extended(in_use()) == {}


def test_metadata() -> None:
    state = volume(metadata={"a": "b"}, image_metadata={"c": "d"})
    assert volumes.add_metadata(state, {"e": "f"}, replace=False) == {"metadata": {"a": "b", "e": "f"}}
    assert volumes.add_metadata(state, {"e": "f"}, replace=True) == {"metadata": {"e": "f"}}
    assert volumes.remove_metadata(state, "a") == {"metadata": {}}
    assert volumes.remove_image_metadata(state, "c") == {"image_metadata": {}}
    with pytest.raises(NotFound):
        volumes.remove_metadata(state, "x")


def test_an_administrator_frees_a_volume_that_hangs() -> None:
    hanging = volume("detaching", attachments=(AT,), reserved_for="one", reservation="token")
    freed = after(hanging, volumes.reset_status(hanging, "available", detached=True))
    assert (freed.status, list(freed.attachments), freed.reserved_for) == ("available", [], "")
