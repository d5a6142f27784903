"""The rules of images, flavors, groups, assignments and quotas: given a state, when something is asked, then this."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from domain import flavors, groups, images, lease, names, quotas
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Rejected, TooLarge
from domain.resources import Assignment, Flavor, Image, Lease, Name, Project, QuotaClaim, QuotaClaims, ServerGroup

NOTHING: dict[str, Any] = {}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
READY = {"disk_format": "qcow2", "container_format": "bare"}


def image(**fields: Any) -> Image:
    return Image(id="i", **({"status": "active"} | fields))


def flavor(**fields: Any) -> Flavor:
    return Flavor(id="f", vcpus=1, ram=1, disk=1, flavor_id="small", **fields)


def group(*members: str) -> ServerGroup:
    return ServerGroup(id="g", user_id="u", policy="affinity", members=members)


FULL_TAGS = tuple(map(str, range(images.MOST_TAGS)))
FULL_MEMBERS = dict.fromkeys(map(str, range(images.MOST_MEMBERS)), "pending")

# given, when, then: the change, None for none, or the refusal
CASES: list[tuple[str, Any, Callable[[Any], Any], Any]] = [
    ("an image is deleted", image(), images.delete, None),
    ("a protected image stays", image(protected=True), images.delete, Forbidden),
    ("deactivate", image(), images.deactivate, {"status": "deactivated"}),
    ("deactivate twice", image(status="deactivated"), images.deactivate, None),
    ("deactivate a queued one", image(status="queued"), images.deactivate, Forbidden),
    ("reactivate", image(status="deactivated"), images.reactivate, {"status": "active"}),
    ("upload", image(status="queued", **READY), images.begin_upload, {"status": "saving"}),
    ("upload after a killed upload", image(status="saving", **READY), images.begin_upload, None),
    ("upload twice", image(**READY), images.begin_upload, Conflict),
    ("upload without a format", image(status="queued"), images.begin_upload, Invalid),
    (
        "the data is there",
        image(status="saving"),
        partial(images.end_upload, stored={"size": 3}),
        {"status": "active", "size": 3},
    ),
    ("the data is there too late", image(status="queued"), partial(images.end_upload, stored={}), Conflict),
    ("an upload broke", image(status="saving"), images.abandon_upload, {"status": "queued"}),
    ("tag", image(tags=("b",)), partial(images.add_tag, tag="a"), {"tags": ["a", "b"]}),
    ("tag twice", image(tags=("a",)), partial(images.add_tag, tag="a"), None),
    ("one tag too many", image(tags=FULL_TAGS), partial(images.add_tag, tag="a"), TooLarge),
    ("a long tag", image(), partial(images.add_tag, tag="a" * 256), Invalid),
    ("untag", image(tags=("a", "b")), partial(images.remove_tag, tag="a"), {"tags": ["b"]}),
    ("untag what is not there", image(), partial(images.remove_tag, tag="a"), NotFound),
    (
        "share",
        image(visibility="shared"),
        partial(images.share, project_id="p"),
        {"members": {"p": "pending"}},
    ),
    ("share a private image", image(visibility="private"), partial(images.share, project_id="p"), Forbidden),
    ("share twice", image(members={"p": "accepted"}), partial(images.share, project_id="p"), Conflict),
    ("share with too many", image(members=FULL_MEMBERS), partial(images.share, project_id="p"), TooLarge),
    (
        "accept",
        image(members={"p": "pending"}),
        partial(images.answer, project_id="p", status="accepted"),
        {"members": {"p": "accepted"}},
    ),
    ("accept what is not shared", image(), partial(images.answer, project_id="p", status="accepted"), NotFound),
    ("answer nonsense", image(members={"p": "pending"}), partial(images.answer, project_id="p", status="x"), Invalid),
    ("unshare", image(members={"p": "pending"}), partial(images.unshare, project_id="p"), {"members": {}}),
    ("unshare what is not shared", image(), partial(images.unshare, project_id="p"), NotFound),
    (
        "extra specs are added to",
        flavor(extra_specs={"a": "1", "b": "2"}),
        partial(flavors.set_specs, specs={"b": "3"}),
        {"extra_specs": {"a": "1", "b": "3"}},
    ),
    ("unset a spec", flavor(extra_specs={"a": "1"}), partial(flavors.unset_spec, key="a"), {"extra_specs": {}}),
    ("unset no spec", flavor(), partial(flavors.unset_spec, key="a"), NotFound),
    ("a private flavor", flavor(is_public=False), flavors.must_be_private, None),
    ("a public flavor", flavor(), flavors.must_be_private, Conflict),
    ("allow", flavor(access=("p",)), partial(flavors.allow, project_id="q"), {"access": ["p", "q"]}),
    ("allow twice", flavor(access=("p",)), partial(flavors.allow, project_id="p"), Conflict),
    ("disallow", flavor(access=("p",)), partial(flavors.disallow, project_id="p"), {"access": []}),
    ("disallow nobody", flavor(), partial(flavors.disallow, project_id="p"), NotFound),
    ("join", group("a"), partial(groups.join, joining=["b"], gone=(), most=2), {"members": ["a", "b"]}),
    ("join a full group", group("a"), partial(groups.join, joining=["b"], gone=(), most=1), Forbidden),
    (
        "join where one has gone",
        group("a"),
        partial(groups.join, joining=["b"], gone={"a"}, most=1),
        {"members": ["b"]},
    ),
    ("join again", group("a"), partial(groups.join, joining=["a"], gone=(), most=1), {"members": ["a"]}),
    (
        "join without a limit",
        group("a"),
        partial(groups.join, joining=["b"], gone=(), most=-1),
        {"members": ["a", "b"]},
    ),
    ("leave", group("a", "b"), partial(groups.leave, leaving=["a", "c"]), {"members": ["b"]}),
    ("grant", Assignment(id="a", user_id="u"), partial(groups.grant, role_id="r"), {"roles": ["r"]}),
    ("grant twice", Assignment(id="a", user_id="u", roles=("r",)), partial(groups.grant, role_id="r"), None),
    (
        "revoke",
        Assignment(id="a", user_id="u", roles=("r", "s")),
        partial(groups.revoke, role_id="r"),
        {"roles": ["s"]},
    ),
    ("revoke nothing", Assignment(id="a", user_id="u"), partial(groups.revoke, role_id="r"), NotFound),
    (
        "a quota beside others",
        Project(id="p", quotas={"cores": 1}),
        partial(groups.set_quotas, given={"ram": 2}),
        {"quotas": {"cores": 1, "ram": 2}},
    ),
    (
        "the quotas of one service again by default",
        Project(id="p", quotas={"cores": 1, "volume:gigabytes": 2}),
        partial(groups.reset_quotas, prefix="volume:"),
        {"quotas": {"cores": 1}},
    ),
    ("take a lease as seen", Lease(id="l", version=3), partial(lease.take, seen=3, me="me"), {"holder": "me"}),
    ("take a lease that another took", Lease(id="l", version=4), partial(lease.take, seen=3, me="me"), Conflict),
    ("give a lease up", Lease(id="l", version=4, holder="me"), partial(lease.give_up, term=4), {"holder": ""}),
    ("give up what another holds", Lease(id="l", version=5, holder="you"), partial(lease.give_up, term=4), NOTHING),
]


@pytest.mark.parametrize(("given", "when", "then"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_given_when_then(given: Any, when: Callable[[Any], Any], then: Any) -> None:
    if isinstance(then, type):
        with pytest.raises(then) as refused:
            when(given)
        assert isinstance(refused.value, Rejected)
        assert refused.value.hint
    else:
        assert when(given) == then


@pytest.mark.parametrize(
    ("holder", "gone", "silent", "may", "contested"),
    [
        pytest.param(None, False, 0.0, True, False, id="never held"),
        pytest.param("", False, 0.0, True, False, id="given up"),
        pytest.param("me", False, 0.0, True, False, id="mine"),
        pytest.param("you", False, 0.0, False, True, id="another's"),
        pytest.param("you", True, 0.0, True, False, id="of a process that ended"),
        pytest.param("you", False, lease.SILENCE_SECONDS, True, True, id="of a silent one"),
    ],
)
def test_who_may_take_the_lease(holder: str | None, gone: bool, silent: float, may: bool, contested: bool) -> None:
    state = None if holder is None else Lease(id="l", holder=holder)
    assert lease.may_take(state, "me", gone=gone, silent=silent) is may
    assert lease.predecessor_may_act(state, "me", gone=gone) is contested


NO_LIMIT = {"instances": -1, "cores": -1, "ram": -1}
UNUSED = {"instances": 0, "cores": 0, "ram": 0}
SMALL = {"instances": 1, "cores": 2, "ram": 512}


@pytest.mark.parametrize(
    ("limits", "used", "low", "high", "count"),
    [
        pytest.param({}, {}, 1, 3, 3, id="no limit"),
        pytest.param({"instances": 5}, {"instances": 4}, 1, 3, 1, id="as many as fit"),
        pytest.param({"cores": 5}, {}, 1, 3, 2, id="by cores"),
        pytest.param({"cores": 5, "ram": 512}, {}, 1, 3, 1, id="by the scarcest"),
        pytest.param({"instances": 5}, {"instances": 5}, 1, 1, None, id="full"),
        pytest.param({"instances": 5}, {"instances": 4}, 2, 3, None, id="fewer than the least"),
        pytest.param({"instances": 5}, {"instances": 9}, 1, 1, None, id="over the limit already"),
    ],
)
def test_how_many_servers_fit(limits: Any, used: Any, low: int, high: int, count: int | None) -> None:
    if count is None:
        with pytest.raises(Forbidden, match="Quota exceeded for instances") as refused:
            quotas.fitting(NO_LIMIT | limits, UNUSED | used, SMALL, low, high)
        assert refused.value.hint
    else:
        assert quotas.fitting(NO_LIMIT | limits, UNUSED | used, SMALL, low, high) == count


def test_claims_count_until_their_servers_do_or_their_time_is_over() -> None:
    fresh = QuotaClaim(("a", "b"), cores=2, ram=512, at=NOW)
    old = QuotaClaim(("c",), cores=1, ram=64, at=NOW - timedelta(seconds=quotas.CLAIM_SECONDS))
    state = QuotaClaims(id="p", claims=(fresh, old))
    assert quotas.open_claims(None, set(), NOW) == ()
    assert quotas.open_claims(state, {"a", "b"}, NOW) == ()
    left = quotas.open_claims(state, {"a"}, NOW)
    assert [claim.servers for claim in left] == [("b",)]
    assert quotas.used_with({"instances": 3, "cores": 3, "ram": 3}, left) == {"instances": 4, "cores": 5, "ram": 515}


@pytest.mark.parametrize(
    ("holder", "held", "age", "given"),
    [
        pytest.param("", False, 0.0, True, id="free"),
        pytest.param("me", True, 0.0, True, id="mine"),
        pytest.param("you", True, 1e6, False, id="another one is called so"),
        pytest.param("you", False, 1.0, False, id="another one is about to be called so"),
        pytest.param("you", False, names.GRACE_SECONDS, True, id="another one was about to, long ago"),
    ],
)
def test_who_gets_a_name(holder: str, held: bool, age: float, given: bool) -> None:
    state = Name(id="n", kind="user", name="ada", holder=holder, updated_at=NOW - timedelta(seconds=age))
    if given:
        assert names.take(state, "me", NOW, held=held) == {"holder": "me"}
    else:
        with pytest.raises(Conflict, match="Duplicate entry found with name ada"):
            names.take(state, "me", NOW, held=held)


def test_only_its_holder_lets_a_name_go() -> None:
    state = Name(id="n", kind="user", name="ada", holder="me")
    assert names.let_go(state, "me") == {"holder": ""}
    assert names.let_go(state, "you") == NOTHING
