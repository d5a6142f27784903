"""The boundary of what the conductor frees by itself, one thing after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from commands.lease import LeaseLost
from domain.resources import Resource

log_ = structlog.get_logger(__name__)


@contextmanager
def by_itself(thing: Resource) -> Iterator[None]:
    """One that can not be freed keeps no other from it: another conductor's work is left to it, the rest is logged."""
    try:
        yield
    except LeaseLost:
        raise
    except Exception as error:
        log_.warning("an unclaimed thing can not be freed now", id=thing.id, error=repr(error))
