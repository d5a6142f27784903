"""Administrator passwords that the API makes up when the caller names none, in Nova's alphabet (no look-alikes)."""

from __future__ import annotations

import secrets

_GROUPS = ("23456789", "ABCDEFGHJKLMNPQRSTUVWXYZ", "abcdefghijkmnopqrstuvwxyz")
LENGTH = 12


def generate(length: int = LENGTH) -> str:
    """A random password with at least one digit, one upper-case and one lower-case letter."""
    picked = [secrets.choice(group) for group in _GROUPS]
    alphabet = "".join(_GROUPS)
    picked += [secrets.choice(alphabet) for _ in range(length - len(picked))]
    secrets.SystemRandom().shuffle(picked)
    return "".join(picked)
