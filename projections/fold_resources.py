"""The rows of a small aggregate and of an event, as pure functions of a commit."""

from __future__ import annotations

from typing import Any

from domain.resources import Resource
from eventlog.envelope import Commit
from projections.facts import Facts, event_id, failed
from projections.schema import RESOURCE_KEYS
from projections.times import to_text

Row = tuple[Any, ...]


def resource_row(kind: str, resource: Resource, position: int, state: str) -> Row:
    """A row of `resources`, in the order of its columns."""
    return (
        kind,
        resource.id,
        position,
        resource.version,
        resource.project_id,
        resource.name,
        to_text(resource.created_at) or "",
        to_text(resource.updated_at) or "",
        int(resource.deleted),
        *(key_text(getattr(resource, key, None)) for key in RESOURCE_KEYS),
        state,
    )


def key_text(value: object) -> str | None:
    """A key as it is indexed; what is empty is not."""
    return None if value is None or value in ("", 0) else str(value)


def event_row(
    commit: Commit,
    position: int,
    index: int,
    *,
    at: str,
    project_id: str | None,
    facts: Facts,
    command: str,
    phase: str,
) -> Row:
    """A row of `events`, in the order of its columns."""
    meta = commit.meta
    return (
        event_id(position, index),
        commit.kind,
        commit.id,
        commit.first_version + index,
        project_id,
        commit.events[index].type,
        command,
        phase,
        facts.step or None,
        facts.request_id or meta.request_id,
        meta.correlation_id or meta.request_id,
        meta.causation_id,
        meta.actor.user_id,
        meta.actor.user_name,
        at,
        int(phase == "failed" or failed(facts)),
    )
