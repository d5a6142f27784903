"""The filters that GET /v1/events and its stream share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request

from api.v1.moments import parse
from domain.errors import Invalid
from eventlog.envelope import Recorded

PREFIX = "*"
FILTERS = ("server", "kind", "type", "actor", "request", "since", "until")


@dataclass(frozen=True)
class EventFilter:
    """What is wanted; a part that is None wants everything. `type` may end in `*`."""

    server_id: str | None = None
    kind: str | None = None
    type: str | None = None
    actor: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def admits(self, event: dict[str, Any], recorded: Recorded) -> bool:
        """Whether a CloudEvent of this commit is wanted."""
        meta = recorded.commit.meta
        ids = (event["requestid"], meta.request_id, meta.correlation_id)
        return (
            self.admits_type(event["type"])
            and (self.actor is None or self.actor in (meta.actor.user_id, meta.actor.user_name))
            and (self.request_id is None or self.request_id in ids)
            and (self.since is None or meta.occurred_at >= self.since)
            and (self.until is None or meta.occurred_at <= self.until)
        )

    def admits_type(self, type_: str) -> bool:
        if self.type is None:
            return True
        return type_.startswith(self.type[:-1]) if self.type.endswith(PREFIX) else type_ == self.type


def event_filter(request: Request) -> EventFilter:
    """The filter in the query: server, kind, type, actor, request, since, until. Raises 400."""
    query = request.query_params
    server_id = query.get("server")
    if server_id is not None:
        try:
            server_id = str(UUID(server_id))
        except ValueError as error:
            raise Invalid(f"server {server_id!r} is no id", hint="GET /v1/servers lists the servers.") from error
    kind = query.get("kind")
    if kind is not None and not kind.replace("_", "").isalnum():
        raise Invalid(f"kind {kind!r} is none of the log's")
    return EventFilter(
        server_id=server_id,
        kind=kind,
        type=query.get("type"),
        actor=query.get("actor"),
        request_id=query.get("request"),
        since=_time(query.get("since"), "since"),
        until=_time(query.get("until"), "until"),
    )


def _time(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    moment = parse(text, name)
    if isinstance(moment, int):
        raise Invalid(f"{name} has to be a time", hint="For positions use after=.")
    return moment
