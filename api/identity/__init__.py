"""Identity v3: tokens, and the users, projects and roles behind them."""

from __future__ import annotations

from starlette.routing import BaseRoute

from api.identity import assignments, catalog, credentials, fixed, projects, roles, tokens, users
from api.services import Services


def routes(services: Services) -> list[BaseRoute]:
    return [
        *tokens.routes(),
        *credentials.routes(),
        *users.routes(),
        *assignments.routes(),
        *projects.routes(),
        *roles.routes(),
        *catalog.routes(),
        *fixed.routes(),
    ]
