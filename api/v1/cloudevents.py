"""An event of the log as a CloudEvent 1.0 (JSON), as far as its reader may see it.

`id` is `<position>.<index>`, unique and in the order of the log; `source` and `subject` name the aggregate; the
attributes of our own (position, version, request id, cause, actor) are extensions with lower-case names, as the
standard asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from api.v1.scope import redacted
from eventlog.envelope import Recorded

if TYPE_CHECKING:
    from api.auth import Caller

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def cloud_events(recorded: Recorded, caller: Caller) -> Iterator[dict[str, Any]]:
    """The events of a commit, in order."""
    for index in range(len(recorded.commit.events)):
        yield cloud_event(recorded, index, caller)


def cloud_event(recorded: Recorded, index: int, caller: Caller) -> dict[str, Any]:
    commit = recorded.commit
    meta, event = commit.meta, commit.events[index]
    data = redacted(_decode(event.data), operator=caller.is_admin)
    if commit.kind == "blob":
        data = {"patch": "(redacted)"}  # user data: as secret as its owner made it
    return {
        "specversion": "1.0",
        "id": f"{recorded.position}.{index}",
        "source": f"/log/{commit.kind}/{commit.id}",
        "subject": commit.id,
        "type": event.type,
        "time": meta.occurred_at,
        "datacontenttype": "application/json",
        "position": recorded.position,
        "version": commit.first_version + index,
        "requestid": data.get("request_id") or meta.request_id,
        "correlationid": meta.correlation_id or meta.request_id,
        "causationid": meta.causation_id,
        "actor": meta.actor.user_name or meta.actor.user_id,
        "actorid": meta.actor.user_id,
        "hash": recorded.hash,
        "data": data,
    }
