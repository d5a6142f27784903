"""Block storage v3: volumes and snapshots as files."""

from __future__ import annotations

from starlette.routing import BaseRoute

from api.services import Services
from api.volume import fixed


def routes(services: Services) -> list[BaseRoute]:
    return [*fixed.routes()]
