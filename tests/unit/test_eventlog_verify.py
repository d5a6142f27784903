"""Verification finds what was changed, removed, added or moved, at the first position that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings, strategies

from eventlog import checkpoint, merkle
from eventlog.envelope import Commit, Event, decode, encode, subject_of
from eventlog.verify import verify_chain
from tests.eventlog_samples import META, events

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
Entry = tuple[int, str, bytes]


@dataclass
class Ledger:
    """A log in memory, written by hand."""

    entries: list[Entry] = field(default_factory=list)
    heads: dict[str, tuple[str, int]] = field(default_factory=dict)
    covered: int = 0
    marks: bool = True  # checkpoints of old logs have none

    def put(self, id: str, *event: Event, kind: str = "server") -> None:
        subject = subject_of(kind, id)
        prev, version = self.heads.get(subject, ("", 0))
        new = list(event) or events("server.stop.accepted", "server.stop.succeeded")
        commit = Commit(
            cid=f"c{len(self.entries)}", kind=kind, id=id, version=version + len(new), meta=META,
            events=new, state=msgspec.Raw(b'{"vm_state":"active"}'), prev=prev,
        )  # fmt: skip
        digest, raw = encode(commit)
        self.heads[subject] = (digest, commit.version)
        self.entries.append((len(self.entries) + 1, subject, raw))

    def checkpoint(self, key: Ed25519PrivateKey = KEY) -> None:
        last = len(self.entries)
        leaves = [merkle.leaf(raw) for _, _, raw in self.entries[self.covered :]]
        previous = self.heads.get(subject_of(checkpoint.KIND, checkpoint.ID), ("", 0))[0]
        made = checkpoint.Checkpoint.over(self.covered + 1, leaves, previous)
        if not self.marks:
            made = msgspec.structs.replace(made, marks="")
        made = made.signed_by(key)
        self.covered = last
        self.put(checkpoint.ID, Event(checkpoint.TYPE, 1, msgspec.Raw(msgspec.json.encode(made))), kind=checkpoint.KIND)


def written(*, marks: bool) -> list[Entry]:
    """a a b a b a C(7) b a b C(11), and a commit after the last checkpoint."""
    ledger = Ledger(marks=marks)
    for id in "aababa":
        ledger.put(id)
    ledger.checkpoint()
    for id in "bab":
        ledger.put(id)
    ledger.checkpoint()
    ledger.put("a")
    return ledger.entries


@pytest.fixture
def entries() -> list[Entry]:
    return written(marks=True)


@pytest.fixture
def old_entries() -> list[Entry]:
    """The same with checkpoints of a version that put no marks into them."""
    return written(marks=False)


def find(entries: list[Entry]) -> tuple[int, str] | None:
    finding = verify_chain(entries, public_key=KEY.public_key())
    return None if finding is None else (finding.position, finding.what)


def renumbered(entries: list[Entry]) -> list[Entry]:
    return [(position, subject, raw) for position, (_, subject, raw) in enumerate(entries, 1)]


def forged(entry: Entry, change: Callable[[Commit], Commit]) -> Entry:
    """An entry that was changed by somebody who can compute hashes."""
    commit = change(decode(*entry).commit)
    return entry[0], entry[1], encode(commit)[1]


def not_covered_by(checkpoint_at: int) -> str:
    return f"it is not the commit that the checkpoint at {checkpoint_at} was made of"


def test_an_untouched_log_verifies(entries: list[Entry], old_entries: list[Entry]) -> None:
    assert find(entries) is None
    assert find(old_entries) is None
    assert verify_chain([]) is None


@pytest.mark.parametrize("position", range(1, 13))
def test_every_altered_byte_of_the_content_is_found_at_its_position(entries: list[Entry], position: int) -> None:
    _, subject, raw = entries[position - 1]
    for old, new in [(b'"ada"', b'"bob"'), (b"2026-01-02", b"2026-01-03"), (b'{"hash":"', b'{"hash": ')]:
        damaged = raw.replace(old, new)
        assert damaged != raw
        assert (find([*entries[: position - 1], (position, subject, damaged), *entries[position:]]) or (0,))[
            0
        ] == position


@pytest.mark.parametrize("position", range(1, 12))
def test_a_removed_commit_is_found_at_its_position(entries: list[Entry], position: int) -> None:
    gap = [*entries[: position - 1], *entries[position:]]
    assert (find(gap) or (0,))[0] == position


def test_a_removed_commit_is_found_even_if_the_rest_moves_up(entries: list[Entry], old_entries: list[Entry]) -> None:
    assert find(renumbered([*entries[:1], *entries[2:]])) == (2, not_covered_by(6))
    assert find(renumbered([*old_entries[:1], *old_entries[2:]])) == (3, "the version goes on at 5 after 2")


@pytest.mark.parametrize(
    ("marks", "expected"), [(True, (2, not_covered_by(3))), (False, (3, "the checkpoint covers 1 to 3"))]
)
def test_the_only_commit_of_an_aggregate_is_missed_by_the_checkpoint(marks: bool, expected: tuple[int, str]) -> None:
    ledger = Ledger(marks=marks)
    for id in "axb":
        ledger.put(id)
    ledger.checkpoint()
    assert find(renumbered([ledger.entries[0], *ledger.entries[2:]])) == expected


def test_an_added_commit_is_found_where_it_was_added(entries: list[Entry]) -> None:
    assert (find([*entries[:4], entries[1], *entries[4:]]) or (0,))[0] == 5
    assert (find(renumbered([*entries[:4], entries[1], *entries[4:]])) or (0,))[0] == 5


def test_an_added_aggregate_is_found_by_the_checkpoint(entries: list[Entry], old_entries: list[Entry]) -> None:
    other = Ledger()
    other.put("z")
    assert find(renumbered([*entries[:2], other.entries[0], *entries[2:]])) == (3, not_covered_by(8))
    found = find(renumbered([*old_entries[:2], other.entries[0], *old_entries[2:]]))
    assert found == (1, "positions 1 to 6 are not what the checkpoint at 8 was made of")


def test_swapped_commits_of_one_aggregate_are_found_at_the_first(entries: list[Entry]) -> None:
    swapped = [entries[1], entries[0], *entries[2:]]
    assert (find(swapped) or (0,))[0] == 1
    assert find(renumbered(swapped)) == (1, "the version goes on at 3 after 0")


def test_swapped_commits_of_two_aggregates_are_found_at_the_first(
    entries: list[Entry], old_entries: list[Entry]
) -> None:
    swapped = [*entries[:7], entries[8], entries[7], *entries[9:]]
    assert find(swapped) == (8, "the position is missing, 9 comes instead")
    # With positions exchanged as well, both chains still hold: only the checkpoint knows the order.
    assert find(renumbered(swapped)) == (8, not_covered_by(11))
    old = [*old_entries[:7], old_entries[8], old_entries[7], *old_entries[9:]]
    assert find(renumbered(old)) == (7, "positions 7 to 10 are not what the checkpoint at 11 was made of")


def test_messages_exchanged_between_subjects_are_found_at_the_first(entries: list[Entry]) -> None:
    (p2, s2, r2), (p3, s3, r3) = entries[1:3]
    assert find([entries[0], (p2, s2, r3), (p3, s3, r2), *entries[3:]]) == (2, "the commit belongs to log.server.b")


@pytest.mark.parametrize(("marks", "position", "what"), [(True, 2, not_covered_by(7)), (False, 4, "previous commit")])
def test_a_forger_who_recomputes_the_hash_is_found_where_or_at_the_next_commit_of_the_aggregate(
    marks: bool, position: int, what: str
) -> None:
    entries = written(marks=marks)
    entries[1] = forged(entries[1], lambda commit: msgspec.structs.replace(commit, cid="forged"))
    found = find(entries)
    assert found is not None
    assert found[0] == position
    assert what in found[1]


def test_a_broken_chain_that_no_checkpoint_follows_is_told_at_the_end(entries: list[Entry]) -> None:
    entries[8] = forged(entries[8], lambda commit: msgspec.structs.replace(commit, cid="forged"))
    entries[11] = forged(entries[11], lambda commit: msgspec.structs.replace(commit, prev="0" * 64))
    assert (find([*entries[:10], *renumbered(entries)[11:]]) or (0,))[0] == 11  # the position of the checkpoint
    assert (find(entries) or (0,))[0] == 9
    ledger = Ledger()
    for id in "aab":
        ledger.put(id)
    ledger.entries[0] = forged(ledger.entries[0], lambda commit: msgspec.structs.replace(commit, cid="forged"))
    found = find(ledger.entries)
    assert found is not None
    assert found[0] == 2
    assert "previous commit" in found[1]


def test_marks_that_were_changed_make_no_difference_to_what_is_found(entries: list[Entry]) -> None:
    """Where it is may be told wrongly then, that there is one may not: the marks are signed, too."""
    made = checkpoint.read_checkpoint(decode(*entries[6]).commit)
    assert not msgspec.structs.replace(made, marks="AAAA" * 6).is_signed_by(KEY.public_key())
    assert made.first_difference([]) == 1
    assert msgspec.structs.replace(made, marks="no base64").first_difference([]) is None


@pytest.mark.parametrize(
    ("marks", "expected"),
    [(True, (3, not_covered_by(7))), (False, (1, "positions 1 to 6 are not what the checkpoint at 7 was made of"))],
)
def test_a_forger_who_rewrites_the_whole_chain_is_found_by_the_checkpoint(
    marks: bool, expected: tuple[int, str]
) -> None:
    entries, head = written(marks=marks), ""
    for index, entry in enumerate(entries):
        if entry[1] == "log.server.b":
            entries[index] = forged(entry, partial(msgspec.structs.replace, cid="forged", prev=head))
            head = decode(*entries[index]).hash
    assert find(entries) == expected


def test_a_forger_with_another_key_is_found_by_the_signature() -> None:
    ledger = Ledger()
    ledger.put("a")
    ledger.checkpoint(Ed25519PrivateKey.generate())
    assert find(ledger.entries) == (2, "the checkpoint is not signed by the key of this log")
    assert verify_chain(ledger.entries) is None


def test_a_log_read_from_the_middle_is_checked_as_far_as_it_goes(entries: list[Entry]) -> None:
    assert verify_chain(entries[3:], first_position=4) is None
    entries[8] = (9, "log.server.a", entries[8][2].replace(b'"ada"', b'"bob"'))
    finding = verify_chain(entries[3:], first_position=4)
    assert finding is not None
    assert str(finding) == "position 9 (log.server.a): the hash is not that of the commit"


def test_the_merkle_root_depends_on_every_leaf_and_their_order() -> None:
    leaves = [merkle.leaf(bytes([n])) for n in range(7)]
    roots = {merkle.root(leaves[:n]) for n in range(8)} | {merkle.root([leaves[1], leaves[0], *leaves[2:]])}
    assert len(roots) == 9


@settings(max_examples=200, deadline=None)
@given(data=strategies.data())
def test_no_damage_to_a_covered_position_goes_unnoticed(data: strategies.DataObject) -> None:
    ledger = Ledger()
    for id in data.draw(strategies.lists(strategies.sampled_from("abc"), min_size=2, max_size=12)):
        ledger.put(id)
    ledger.checkpoint()
    entries = list(ledger.entries)
    assert find(entries) is None
    index = data.draw(strategies.integers(0, len(entries) - 2))
    match data.draw(strategies.sampled_from(["flip", "remove", "repeat", "swap"])):
        case "flip":
            position, subject, raw = entries[index]
            at = data.draw(strategies.integers(0, len(raw) - 1))
            entries[index] = (position, subject, raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
            assert (find(entries) or (0,))[0] == index + 1
        case "remove":
            del entries[index]
        case "repeat":
            entries.insert(index, entries[index])
        case "swap":
            entries[index], entries[index + 1] = entries[index + 1], entries[index]
    found = find(renumbered(entries))
    assert found is not None
    same = [given[2] == kept[2] for given, kept in zip(entries, ledger.entries, strict=False)]
    assert found[0] == [*same, False].index(False) + 1
