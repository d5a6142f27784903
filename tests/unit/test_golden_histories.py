"""Histories written by earlier versions replay to the same states. The files are never edited; new ones are added.

Beside each `NAME.jsonl` (an export of a whole log) stands `NAME.sha256`: the digest of every aggregate's last state as
this version reads it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from commands.audit import MachineAudit
from domain import resources
from domain.server import decode_server
from eventlog import archive, envelope

FOLDER = Path(__file__).parent.parent / "golden_histories"
HISTORIES = sorted(FOLDER.glob("*.jsonl"))


def digest(path: Path) -> str:
    """The digest of all last states, in order of kind and id; fails where the machine or the fold disagrees."""
    audit = MachineAudit()
    last: dict[tuple[str, str], bytes] = {}
    for entry in archive.read(path):
        commit = envelope.decode(entry.position, entry.subject, bytes(entry.message)).commit
        assert audit.feed(commit) is None, f"position {entry.position}"
        if commit.kind == "server":
            last[commit.kind, commit.id] = msgspec.json.encode(decode_server(commit.state), order="deterministic")
        elif commit.kind in resources.KINDS:
            state = resources.decode(commit.kind, commit.state)
            last[commit.kind, commit.id] = msgspec.json.encode(state, order="deterministic")
    total = hashlib.sha256()
    for key in sorted(last):
        total.update("/".join(key).encode() + b"\0" + last[key] + b"\n")
    return total.hexdigest()


def test_there_are_golden_histories() -> None:
    assert HISTORIES


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_golden_history_replays_to_the_same_state(path: Path) -> None:
    assert archive.verify(path) is None
    assert digest(path) == path.with_suffix(".sha256").read_text().strip()
