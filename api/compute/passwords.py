"""Administrator passwords that the API makes up when the caller names none, in Nova's alphabet (no look-alikes)."""

from __future__ import annotations

import hmac
import random
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_GROUPS = ("23456789", "ABCDEFGHJKLMNPQRSTUVWXYZ", "abcdefghijkmnopqrstuvwxyz")
LENGTH = 12


def generate(length: int = LENGTH) -> str:
    """A random password with at least one digit, one upper-case and one lower-case letter."""
    return _made(secrets.SystemRandom(), length)


def given_or_new(body: Mapping[str, Any]) -> str:
    """The `adminPass` of a request, an empty one too, as Nova; else one made up."""
    return str(body["adminPass"]) if "adminPass" in body else generate()


def derived(data_dir: Path, text: str, length: int = LENGTH) -> str:
    """The same password for the same text, which nobody without the keys of the data directory can make."""
    key = (data_dir / "keys" / "tokens").read_bytes()
    return _made(random.Random(hmac.digest(key, text.encode(), "sha256")), length)


def _made(source: random.Random, length: int) -> str:
    picked = [source.choice(group) for group in _GROUPS]
    alphabet = "".join(_GROUPS)
    picked += [source.choice(alphabet) for _ in range(length - len(picked))]
    source.shuffle(picked)
    return "".join(picked)
