"""Global checkpoints: a signed Merkle root over every message since the previous checkpoint.

The chain of each aggregate shows that its history was not changed; a checkpoint shows that nothing was changed,
removed, added or reordered across the whole log, not even by somebody who can compute hashes. Checkpoints are commits
of the aggregate `checkpoint`/`global`, so they are chained themselves, and each covers the one before it. The root
says that something differs; `marks`, the first bytes of every message's digest, say where.

The Ed25519 key lives in `DATA/keys`: `checkpoint.key` (PEM, mode 0600) and `checkpoint.pub`. Whoever keeps a copy of
the public key elsewhere can tell a log that was rewritten together with its key.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from eventlog import merkle
from eventlog.envelope import Commit, Event, Recorded
from eventlog.errors import LogError
from eventlog.log import EventLog

KIND = "checkpoint"
ID = "global"
TYPE = "checkpoint.made"
PRIVATE_KEY_FILE = "checkpoint.key"
PUBLIC_KEY_FILE = "checkpoint.pub"
MARK_BYTES = 3
MAX_COVERED = 10_000  # messages of one checkpoint: with their marks it stays far below what a message may be


class KeyUnusable(LogError):
    """The key file does not hold an Ed25519 key."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The root over the messages at `first`..`last`; `previous` is the hash of the checkpoint before.

    `marks`: base64 of the first `MARK_BYTES` of every leaf; checkpoints of old logs have none.
    """

    first: int
    last: int
    root: str
    previous: str
    signature: str = ""
    marks: str = ""

    @classmethod
    def over(cls, first: int, leaves: Sequence[bytes], previous: str) -> Checkpoint:
        """Unsigned, over the leaves of the messages from `first` on."""
        marks = b64encode(b"".join(leaf[:MARK_BYTES] for leaf in leaves)).decode()
        return cls(first, first + len(leaves) - 1, merkle.root(leaves).hex(), previous, marks=marks)

    @property
    def is_full(self) -> bool:
        """Whether there may be more that is not covered yet."""
        return self.last - self.first + 1 >= MAX_COVERED

    def signed_bytes(self) -> bytes:
        lines = [f"chronova checkpoint {2 if self.marks else 1}", self.first, self.last, self.root, self.previous]
        return "".join(f"{line}\n" for line in ([*lines, self.marks] if self.marks else lines)).encode()

    def first_difference(self, leaves: Sequence[bytes]) -> int | None:
        """The first position, from `first` on, whose leaf is not the one that was covered; None if no mark tells."""
        try:
            marks = b64decode(self.marks, validate=True)
        except ValueError:
            return None
        for index in range(len(marks) // MARK_BYTES):
            mark = marks[index * MARK_BYTES : (index + 1) * MARK_BYTES]
            if index >= len(leaves) or leaves[index][:MARK_BYTES] != mark:
                return self.first + index
        return None

    def signed_by(self, key: Ed25519PrivateKey) -> Checkpoint:
        return msgspec.structs.replace(self, signature=key.sign(self.signed_bytes()).hex())

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(bytes.fromhex(self.signature), self.signed_bytes())
        except (InvalidSignature, ValueError):
            return False
        return True


def read_checkpoint(commit: Commit) -> Checkpoint:
    """The checkpoint in a commit of this kind. Raises msgspec.DecodeError."""
    return msgspec.json.decode(commit.events[0].data, type=Checkpoint)


def load_or_create_key(directory: Path) -> Ed25519PrivateKey:
    """The signing key of a data directory, made on first use. Raises KeyUnusable."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = directory / PRIVATE_KEY_FILE
    if not file.exists():
        _write_new_key(file)
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except ValueError as error:
        raise KeyUnusable(f"{file} can not be read as a private key: restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{file} holds another kind of key than Ed25519: restore it from a backup")
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not (directory / PUBLIC_KEY_FILE).exists():
        (directory / PUBLIC_KEY_FILE).write_bytes(public)
    return key


def load_public_key(directory: Path) -> Ed25519PublicKey | None:
    """The public key of a data directory; None if it never made a checkpoint. Raises KeyUnusable."""
    file = directory / PUBLIC_KEY_FILE
    try:
        key = load_pem_public_key(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise KeyUnusable(f"{file} can not be read as a public key: restore it from a backup") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"{file} holds another kind of key than Ed25519: restore it from a backup")
    return key


class Draft(NamedTuple):
    """A checkpoint that is ready to be appended after the one before it."""

    after: Recorded | None
    event: Event
    state: bytes


async def draft(log: EventLog, key: Ed25519PrivateKey) -> Draft | None:
    """A checkpoint over what came since the last one, `MAX_COVERED` at most; None if only that one. Raises LogError."""
    before = await log.last_from_leader(KIND, ID)
    covered = read_checkpoint(before.commit).last if before else 0
    head = await log.last_position()
    if before is not None and head == before.position == covered + 1:
        return None
    if head == covered:
        return None
    head = min(head, covered + MAX_COVERED)
    leaves = [merkle.leaf(one.raw) async for batch in log.scan(covered, upto=head) for one in batch]
    if len(leaves) != head - covered:
        raise LogError(f"positions {covered + 1} to {head} hold {len(leaves)} commits: run `chronova audit verify`")
    made = Checkpoint.over(covered + 1, leaves, before.hash if before else "").signed_by(key)
    return Draft(before, Event(TYPE, 1, msgspec.Raw(msgspec.json.encode(made))), msgspec.json.encode({"last": head}))


def _write_new_key(file: Path) -> None:
    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(private)
        handle.flush()
        os.fsync(descriptor)
    try:
        # A link appears whole, and only if there is none: processes that start together end up with one key.
        os.link(temporary, file)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
