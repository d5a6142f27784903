"""The command and query API: commands, servers at any moment, history and reasons, events as they happen, audit.

Refusals are problem+json with a reason code and what to do next (`api.errors`). Everything is scoped: another
project's server does not exist (404), its events are not listed; administrators see all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route

from api.v1 import audit, commands, diff, events, explain, history, hosts, machine, servers, stream

if TYPE_CHECKING:
    from api.services import Services


def routes(services: Services) -> list[BaseRoute]:
    """Mounted at /v1."""
    return [
        Route("/", servers.index),
        Route("/commands", commands.give, methods=["POST"]),
        Route("/commands", commands.catalogue),
        Route("/servers", servers.listing),
        Route("/servers/{id}", servers.one),
        Route("/servers/{id}/history", history.history),
        Route("/servers/{id}/explain", explain.explain),
        Route("/servers/{id}/diff", diff.diff),
        Route("/events", events.listing),
        Route("/events/stream", stream.stream),
        Route("/machine", machine.machine),
        Route("/hosts", hosts.listing),
        Route("/audit/checkpoint", audit.checkpoint),
        Route("/audit/verify", audit.verify, methods=["POST"]),
        Route("/audit/export", audit.export),
    ]
