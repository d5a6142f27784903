"""Block storage v3: volumes and snapshots as files."""

from __future__ import annotations

from starlette.routing import BaseRoute

from api.services import Services
from api.volume import actions, attachments, fixed, quotas, snapshots, volumes


def routes(services: Services) -> list[BaseRoute]:
    return [
        *volumes.routes(),
        *actions.routes(),
        *snapshots.routes(),
        *attachments.routes(),
        *quotas.routes(),
        *fixed.routes(),
    ]
