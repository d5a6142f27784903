"""Is this log the one that was written? A pure check of stored messages, in order, without a server.

Checked at every position: positions have no gap; the message has the form of a commit; the hash is that of the bytes;
the subject is that of the aggregate; the commit names the hash of the aggregate's previous commit and continues its
version. At every checkpoint: the Merkle root of what it covers and, given the public key, the signature.

What is found where: a changed, removed, added or moved commit at its own position. Where a forger recomputed hashes or
renumbered positions, the next checkpoint still knows it (`locate`); without one, it is found at the aggregate's next
commit. What is newer than the newest checkpoint is protected by the chains alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from eventlog import checkpoint, envelope, merkle
from eventlog.envelope import DEFAULT_PREFIX, Commit, Recorded
from eventlog.errors import CorruptMessage

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True)
class Finding:
    """The first position that does not fit, and why."""

    position: int
    subject: str
    what: str

    def __str__(self) -> str:
        return f"position {self.position} ({self.subject}): {self.what}"


class ChainVerifier:
    """Takes messages one by one. `check` returns a finding or None; after a finding the verifier is of no more use.

    With `locate` a broken chain is held back until the next checkpoint, which may know of an earlier difference:
    `finish` returns what was held back at the end.
    """

    def __init__(
        self,
        *,
        first_position: int = 1,
        prefix: str = DEFAULT_PREFIX,
        public_key: Ed25519PublicKey | None = None,
        locate: bool = False,
    ) -> None:
        self._locate = locate
        self._held_back: Finding | None = None
        self._next = first_position
        # A log that is read from the middle has aggregates whose earlier commits are not known.
        self._from_start = first_position == 1
        self._prefix = prefix
        self._public_key = public_key
        self._heads: dict[str, tuple[str, int]] = {}
        self._leaves: list[bytes] = []
        self._covered = first_position - 1
        self.checkpoints = 0

    @property
    def position(self) -> int:
        """The last position that was checked."""
        return self._next - 1

    def check(self, position: int, subject: str, raw: bytes) -> Finding | None:
        if self._held_back is not None:
            return self._look_back(self._held_back, position, subject, raw)
        if position != self._next:
            return Finding(self._next, subject, f"the position is missing, {position} comes instead")
        recorded = self._read(position, subject, raw)
        if isinstance(recorded, str):
            return Finding(position, subject, recorded)
        what = self._wrong_link(subject, recorded.commit)
        if what:
            found = Finding(position, subject, what)
            return self._look_back(found, position, subject, raw) if self._locate else found
        if recorded.commit.kind == checkpoint.KIND:
            finding = self._wrong_checkpoint(position, subject, recorded)
            if finding is not None:
                return finding
        self._next = position + 1
        self._heads[subject] = (recorded.hash, recorded.commit.version)
        self._leaves.append(merkle.leaf(raw))
        return None

    def finish(self) -> Finding | None:
        """What is still held back when there are no more messages."""
        return self._held_back

    def _look_back(self, found: Finding, position: int, subject: str, raw: bytes) -> Finding | None:
        """The finding, or the earlier difference that the next checkpoint knows of; None until there is one."""
        made = self._signed_checkpoint(position, subject, raw)
        if made is None and len(self._leaves) < checkpoint.MAX_COVERED:
            self._held_back = found
            self._leaves.append(merkle.leaf(raw))
            return None
        at = made.first_difference(self._leaves) if made is not None and made.first == self._covered + 1 else None
        return found if at is None or at >= found.position else _not_what_was_covered(at, position)

    def _signed_checkpoint(self, position: int, subject: str, raw: bytes) -> checkpoint.Checkpoint | None:
        if subject != envelope.subject_of(checkpoint.KIND, checkpoint.ID, self._prefix):
            return None
        recorded = self._read(position, subject, raw)
        if isinstance(recorded, str):
            return None
        try:
            made = checkpoint.read_checkpoint(recorded.commit)
        except msgspec.DecodeError:
            return None
        return made if self._public_key is None or made.is_signed_by(self._public_key) else None

    def _read(self, position: int, subject: str, raw: bytes) -> Recorded | str:
        """The commit, or what is wrong with the message taken by itself."""
        parts = envelope.split(raw)
        if parts is None:
            return "the message has not the form of a commit"
        if sha256(parts[1]).hexdigest() != parts[0]:
            return "the hash is not that of the commit"
        try:
            recorded = envelope.decode(position, subject, raw)
            named = envelope.subject_of(recorded.commit.kind, recorded.commit.id, self._prefix)
        except CorruptMessage as error:
            return error.what
        except ValueError as error:
            return str(error)
        return recorded if subject == named else f"the commit belongs to {named}"

    def _wrong_link(self, subject: str, commit: Commit) -> str:
        head = self._heads.get(subject)
        if head is None and not self._from_start:
            return ""
        prev, version = head or ("", 0)
        if not commit.events:
            return "the commit has no event"
        if commit.first_version != version + 1:
            return f"the version goes on at {commit.first_version} after {version}"
        if commit.prev != prev:
            return f"the previous commit is given as {commit.prev or 'none'} and is {prev or 'none'}"
        return ""

    def _wrong_checkpoint(self, position: int, subject: str, recorded: Recorded) -> Finding | None:
        try:
            made = checkpoint.read_checkpoint(recorded.commit)
        except msgspec.DecodeError as error:
            return Finding(position, subject, f"the checkpoint can not be read: {error}")
        if self._public_key is not None and not made.is_signed_by(self._public_key):
            return Finding(position, subject, "the checkpoint is not signed by the key of this log")
        if made.previous != recorded.commit.prev:
            return Finding(position, subject, "the checkpoint was signed after another one")
        if not self._from_start and made.first <= self._covered:
            # It covers messages from before the first position that is read here.
            self._forget_covered(made)
            return None
        at = made.first_difference(self._leaves) if made.first == self._covered + 1 else None
        if at is not None:
            return _not_what_was_covered(at, position)
        if made.first != self._covered + 1 or not made.first <= made.last < position:
            return Finding(position, subject, f"the checkpoint covers {made.first} to {made.last}")
        if merkle.root(self._leaves[: made.last - self._covered]).hex() != made.root:
            what = f"positions {made.first} to {made.last} are not what the checkpoint at {position} was made of"
            return Finding(made.first, "*", what)
        self.checkpoints += 1
        self._forget_covered(made)
        return None

    def _forget_covered(self, made: checkpoint.Checkpoint) -> None:
        del self._leaves[: max(0, made.last - self._covered)]
        self._covered = max(self._covered, made.last)


def _not_what_was_covered(at: int, position: int) -> Finding:
    return Finding(at, "*", f"it is not the commit that the checkpoint at {position} was made of")


def verify_chain(
    entries: Iterable[tuple[int, str, bytes]],
    *,
    first_position: int = 1,
    prefix: str = DEFAULT_PREFIX,
    public_key: Ed25519PublicKey | None = None,
) -> Finding | None:
    """Check messages given as (position, subject, stored bytes); the first finding, or None if all is well."""
    verifier = ChainVerifier(first_position=first_position, prefix=prefix, public_key=public_key, locate=True)
    for position, subject, raw in entries:
        finding = verifier.check(position, subject, raw)
        if finding is not None:
            return finding
    return verifier.finish()
