"""Placement: what hosts have and what is placed on them, for reading."""

from __future__ import annotations

from starlette.routing import BaseRoute

from api.placement.documents import routes as documents
from api.placement.providers import routes as providers
from api.services import Services


def routes(services: Services) -> list[BaseRoute]:
    return [*documents(), *providers()]
