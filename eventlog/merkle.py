"""The Merkle tree over stored messages, as in RFC 6962: leaves and nodes are hashed with different first bytes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()


def leaf(message: bytes) -> bytes:
    return sha256(b"\x00" + message).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree; a node without a sibling moves up as it is."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        pairs = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]
