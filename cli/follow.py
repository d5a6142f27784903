"""The events of the log as they happen, through restarts of the API: resumed after the last one that was seen.

A line that breaks in the middle of a commit loses nothing of it: what is asked for next is what follows that event.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import httpx

from cli.client import problem
from cli.errors import Stop

if TYPE_CHECKING:
    from cli.client import System

READ_SECONDS = 45.0  # the stream says that it is alive every 15 s
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 1.0


def events_after(system: System, after: int | str, server_id: str | None = None) -> Iterator[dict[str, Any]]:
    """CloudEvents after a position, or after the event of an id, for ever.

    Raises `Stop` when the API is away for a minute, or refuses.
    """
    lost_at: float | None = None
    while True:
        params: dict[str, Any] = {"after": after} | ({"server": server_id} if server_id else {})
        timeout = httpx.Timeout(10.0, read=READ_SECONDS)
        try:
            with system.http.stream("GET", "/v1/events/stream", params=params, timeout=timeout) as stream:
                if stream.status_code >= 400:
                    stream.read()
                    raise Stop(problem(stream))
                if lost_at is not None:
                    click.echo("chronova: connected again", err=True)
                lost_at = None
                for line in stream.iter_lines():
                    if line.startswith("data:"):
                        event = json.loads(line.removeprefix("data:"))
                        after = event["id"]
                        yield event
        except httpx.TransportError as error:
            if lost_at is None:
                click.echo("chronova: the connection is lost; trying again", err=True)
                lost_at = time.monotonic()
            elif time.monotonic() - lost_at > PATIENCE_SECONDS:
                raise Stop("the API does not come back: look whether `chronova up` is running") from error
        time.sleep(PAUSE_SECONDS)
